// The published interface as JSON schemas, written from its description and from nothing of ours: what is missing or of another type is an error, what is more is not.

interface Schema { readonly [keyword: string]: unknown }
const text: Schema = { type: 'string' }
const integer: Schema = { type: 'integer' }
const flag: Schema = { type: 'boolean' }
const list = (items: Schema): Schema => ({ type: 'array', items })
/** A map with free names. */
const mapOf = (values: Schema, names?: string): Schema => ({ type: 'object', additionalProperties: values, ...(names === undefined ? {} : { propertyNames: { pattern: names } }) })
/** Every member is required; others may be there. */
const record = (members: Readonly<Record<string, Schema>>, optional: Readonly<Record<string, Schema>> = {}): Schema => ({ type: 'object', properties: { ...members, ...optional }, required: Object.keys(members) })
const texts = (...names: string[]): Record<string, Schema> => Object.fromEntries(names.map((name) => [name, text]))
const integers = (...names: string[]): Record<string, Schema> => Object.fromEntries(names.map((name) => [name, integer]))
const flags = (...names: string[]): Record<string, Schema> => Object.fromEntries(names.map((name) => [name, flag]))
const oneOf = (...values: (string | number)[]): Schema => ({ enum: values })
/** Seconds since the epoch: milliseconds would be a thousand times that. */
const seconds: Schema = { type: 'integer', minimum: 0, maximum: 10_000_000_000 }
const UID = '^[0-9a-f]{32}$'
const SERIAL = '^SPGW[0-9A-F]{12}$'

export const envelopeOf = (data: Schema): Schema => record({ result: record({ retval: { const: 1 } }, { message: text }), data })
/** Refused: a negative number, and a sentence. */
export const refusal: Schema = record({ result: record({ retval: oneOf(-1, -2, -5, -6), message: { type: 'string', minLength: 1 } }), data: { type: 'object' } })
/** HTTP status by `retval`: it says the same. */
export const statusesOf: Readonly<Record<number, readonly number[]>> = { [-1]: [409, 426, 429, 500, 503], [-2]: [401, 403], [-5]: [404], [-6]: [400, 405, 413, 415, 422] }

const pageOf = (offset: 'uid_offset' | 'fingerprint_offset' | 'tag_uid_offset', data: Schema): Schema =>
  record({ updated_after: text, [offset]: text, is_final: flag, is_zipped: { const: false }, unzipped_size: integer, data })

const tagProperties = record({ ...texts('name', 'detection_level', 'description'), type: oneOf(1, 2, 3, 4) })
const sysinfo = record({
  uid: { type: 'string', pattern: UID }, sysinfo_update_time: seconds, ...flags('is_registered', 'online', 'onnet', 'quarantined'), ...texts('hostname', 'domain', 'user_name'),
  user_info: record(texts('user_ext_name', 'user_email', 'service', 'phone', 'user_office', 'user_country', 'user_city', 'user_title', 'user_department', 'user_company', 'user_manager', 'employee_id', 'user_group_name')),
  ...texts('avatar_fingerprint', 'os_type', 'os_ver'), fct_ver: list(integer), fct_build_no: integer, ...texts('fct_sn', 'client_cert_sn', 'ip', 'public_ip', 'mac'), mac_list: list(text), vdom: text,
  gateway_route_list: list(record({ gateway_info: record(texts('fgt_sn', 'interface', 'vdom')), route_info: list(record(texts('ip', 'mac', 'route_type'))) })),
  ...texts('group_name', 'hardware_sn', 'host_manufacturer', 'host_model', 'cpu', 'memory'), ...flags('av_running', 'vuln_scan_running'),
  ...texts('feature_av', 'feature_fw', 'feature_wf', 'feature_as', 'feature_vpn', 'feature_vs'),
  vuln_stats: record({ scan_time: seconds, ...integers('critical', 'high', 'medium', 'low', 'info') }),
  social_ids: list(record(texts('service', 'account_id'))), client_certs: list(record({ ...texts('sn', 'purpose', 'user'), not_after: seconds })),
})
const tags = record({
  command_version: integer, ...texts('serial', 'device_type'), ...flags('send_mac', 'no_vdom'),
  commands: list(record({ uuid: text, tag_properties: tagProperties, type: oneOf('ipblock', 'mac'), values: list(text) })),
})
const uidTags = record({
  uid_tag_lists: mapOf(record({
    members: list(record({ ...texts('tag_uid', 'tag_name'), tag_properties: tagProperties, valid_until: { type: ['integer', 'null'] } })), host_tag_update_time: seconds, unknown: list(text),
  }), UID),
})
const olderTags = record({
  is_snapshot: flag, tag_info: mapOf(record(texts('description'))), tag_members: mapOf({ type: 'object' }), uid_tag_lists: mapOf(list(text), UID), uid_info: mapOf(record({ host_tag_update_time: seconds }), UID),
})
const vulnerabilities = record({
  forticlients: mapOf(record({ ...texts('fgt_sn', 'vdom'), scan_time: seconds, ...texts('hostname', 'ip', 'mac', 'user_name'), vuln_ids: list(text) }), UID),
  vulns: mapOf(record({ ...texts('vuln_name', 'category', 'severity', 'vendor_url'), cve_ids: list(text) })),
})
const clientAvatars = record({ avatars: list(record(texts('fingerprint', 'avatar', 'user_name', 'domain_name', 'fct_uid'))) })
const snapshot = record({
  timestamp: seconds, ...texts('emssn', 'vdom', 'fctsn', 'guid', 'evtype', 'info_type'), info: record({ procinfolist: list(record({ pid: integer, path: text })) }),
})
const status: Schema = { type: 'object', properties: Object.fromEntries(['sysinfo', 'vulns', 'avatar', 'host_tags', 'uid_tags', 'tags'].map((name) => [name, record({ is_updated: flag })])) }
const subscribed = record({ subscribed: mapOf(record({ is_registered: flag }), UID) })
/** Told under `data.data` as well as under `data`: the description can be read in both ways. */
const twice = (told: Schema): Schema => ({ allOf: [told, record({ data: told })] })

export type Method = 'GET' | 'POST' | 'PATCH'
export interface PublishedCall { readonly path: string; readonly methods: readonly Method[]; readonly data: Schema }
const call = (methods: readonly Method[], path: string, data: Schema): PublishedCall => ({ path, methods, data })
const both: readonly Method[] = ['GET', 'POST']
const anything: Schema = { type: 'object' }

/** Every JSON call there is. */
export const published: readonly PublishedCall[] = [
  call(['GET'], '/api/v1/system/capabilities', record({ capabilities: record(flags('silent_fortigate_auth', 'fabric_approval_support', 'websocket', 'websocket_malware_notif')) })),
  call(['GET'], '/api/v1/system/serial_number', record(texts('sn'))),
  call(['GET'], '/api/v1/system/fabric_id', record(texts('tenant_id', 'serial_number'))),
  call(['GET'], '/api/v1/system/version', record(texts('version', 'major', 'minor', 'patch', 'build'))),
  call(['GET'], '/api/v1/settings/server/public_address', record({ public_address: text, ...integers('public_port', 'public_public') })),
  call(['GET'], '/api/v1/settings/server/websocket_port', record(integers('websocket_port'))),
  call(['POST'], '/api/v1/fabric_device_auth/fortigate/init', record({ result: record({ retval: { const: 1 } }), serial: { type: 'string', pattern: SERIAL }, state: oneOf('pending', 'authorised', 'denied'), fingerprint: text }, { certificate: text })),
  call(['POST'], '/api/v1/fabric_device_auth/fortigate', record({ authorized: list({ type: 'string', pattern: SERIAL }), deauthorized: list({ type: 'string', pattern: SERIAL }) }, { expiry: record(integers('expiry_period')) })),
  call(['POST'], '/api/v1/fabric_device_auth/disconnect', anything),
  call(['PATCH'], '/api/v1/fabric_device_auth/{sn}/update', anything),
  call(['PATCH'], '/api/v1/fabric_device_auth/update_auth', anything),
  call(['POST'], '/api/v1/fgt/gateway_details/gateway_mac', list(record({ ...texts('mac', 'vdom', 'interface', 'sn'), ip_list: list(text) }))),
  call(['POST'], '/api/v1/fgt/gateway_details/vpn', anything),
  call(both, '/api/v1/report/fct/sysinfo', pageOf('uid_offset', mapOf(sysinfo, UID))),
  call(both, '/api/v1/report/fct/tags', pageOf('tag_uid_offset', tags)),
  call(both, '/api/v1/report/fct/uid_tags', pageOf('uid_offset', uidTags)),
  call(both, '/api/v1/report/fct/host_tags', pageOf('uid_offset', olderTags)),
  call(both, '/api/v1/report/host_tags', record({ ems_version: text, data: list(record({ ...texts('tag_uid', 'name', 'description', 'detection_level'), type: oneOf(1, 2, 3, 4) })) })),
  call(both, '/api/v1/report/fct/vuln', pageOf('uid_offset', vulnerabilities)),
  call(both, '/api/v1/report/fct/avatar', pageOf('fingerprint_offset', mapOf(record(texts('avatar'))))),
  call(['POST'], '/api/v1/report/fct/client_avatars', twice(clientAvatars)),
  call(both, '/api/v1/report/fct/snapshot', twice(snapshot)),
  call(both, '/api/v1/report/fct/status', twice(status)),
  call(['POST'], '/api/v1/report/fct/subscribe', twice(subscribed)),
]
