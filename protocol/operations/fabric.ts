// Operations of the fabric wire, by the published paths. Gateways sign each request with the key of their certificate.
import { z } from 'zod'
import { type Caller, operation } from '../operation.ts'
import { envelope, heldWatermark, page, reportQuery, serialList, watermark } from '../fabric/envelope.ts'
import { approveBody, approveData, initBody, initData, updateAuthBody, updateBody } from '../fabric/joining.ts'
import { endpointSight, gatewayMacBody, gatewaySight, rejectedConnections, rejectedMacs, vpnBody } from '../fabric/sightings.ts'
import { avatarData, clientAvatars, hostTagsReply, olderTagsData, processSnapshot, sysinfoData, tagsData, uidTagsData, vulnData } from '../fabric/tables.ts'
import { gatewaySerial, uid } from '../ids.ts'
import { instant, sha256Hex } from '../text.ts'

const surface = 'fabric' as const
const read = <D extends z.ZodType, C extends Caller>(id: string, path: string, caller: C, summary: string, data: D) =>
  operation({ id, method: 'GET', path, caller, surface, summary, reply: envelope(data) })

export const capabilities = read('fabric-capabilities', '/api/v1/system/capabilities', 'nobody', 'What this EMS can do on the fabric.',
  z.object({ capabilities: z.object({ silent_fortigate_auth: z.boolean(), fabric_approval_support: z.boolean(), websocket: z.boolean(), websocket_malware_notif: z.boolean() }) }))
export const serialNumber = read('fabric-serial-number', '/api/v1/system/serial_number', 'nobody', 'The EMS serial number.', z.object({ sn: z.string() }))
export const fabricId = read('fabric-id', '/api/v1/system/fabric_id', 'nobody', 'The fabric this EMS is the root of.', z.object({ tenant_id: z.string(), serial_number: z.string() }))
export const version = read('fabric-version', '/api/v1/system/version', 'nobody', 'The EMS version.', z.object({ version: z.string(), major: z.string(), minor: z.string(), patch: z.string(), build: z.string() }))
/** The published schema misspells the port as `public_public`; both are sent. */
export const publicAddress = read('fabric-public-address', '/api/v1/settings/server/public_address', 'nobody', 'Where this EMS is reached.', z.object({ public_address: z.string(), public_port: z.number().int(), public_public: z.number().int() }))
export const websocketPort = read('fabric-websocket-port', '/api/v1/settings/server/websocket_port', 'nobody', 'The port of the websocket.', z.object({ websocket_port: z.number().int() }))
export const downloadAuthorities = operation({ id: 'fabric-authorities', method: 'GET', path: '/api/v1/ztna_certificates/download', caller: 'nobody', surface: 'pem', summary: 'Every valid CA of this EMS, PEM.', reply: z.string() })

/** Ours: whoever relies on our certificates without asking us reads what was revoked. DER has one CA's list, PEM the list of every valid CA. */
export const revocationList = operation({
  id: 'fabric-revocation-list', method: 'GET', path: '/api/v1/ztna_certificates/crl', caller: 'nobody', surface: 'crl', summary: 'Certificates revoked before their end (CRL), of endpoints and gateways.',
  query: z.strictObject({ format: z.enum(['der', 'pem']).default('der'), /** SHA-256 of the CA; the active one when left out. */ authority: sha256Hex.optional() }), reply: z.string(),
})

export const joinInit = operation({ id: 'fabric-join', method: 'POST', path: '/api/v1/fabric_device_auth/fortigate/init', caller: 'nobody', signedByBareKey: true, surface, summary: 'Ask to join the fabric; signed by the bare key of the CSR. Asking again tells the state.', body: initBody, reply: envelope(initData) })
export const joinApprove = operation({ id: 'fabric-vouch', method: 'POST', path: '/api/v1/fabric_device_auth/fortigate', caller: 'gateway', surface, summary: 'A root gateway vouches for members.', body: approveBody, reply: envelope(approveData) })
export const disconnect = operation({ id: 'fabric-disconnect', method: 'POST', path: '/api/v1/fabric_device_auth/disconnect', caller: 'gateway', surface, summary: 'Leave the fabric.', body: z.object({ fgt_sns: z.array(gatewaySerial).max(100) }), reply: envelope(z.object({})) })
export const updateGateway = operation({ id: 'fabric-update', method: 'PATCH', path: '/api/v1/fabric_device_auth/{sn}/update', caller: 'administrator', surface, summary: 'What a gateway is entitled to.', params: z.object({ sn: gatewaySerial }), body: updateBody, reply: envelope(z.object({})) })
export const updateAuth = operation({ id: 'fabric-update-auth', method: 'PATCH', path: '/api/v1/fabric_device_auth/update_auth', caller: 'administrator', surface, summary: 'Authorise or de-authorise gateways.', body: updateAuthBody, reply: envelope(z.object({})) })
/** A gateway's certificate is renewed like an endpoint's (ours; the published interface has none). */
export const renewGateway = operation({ id: 'fabric-renew', method: 'POST', path: '/api/v1/fabric/renew', caller: 'gateway', acceptsExpired: true, summary: 'A new certificate for the same serial.', body: z.strictObject({ csr: initBody.shape.csr }), reply: z.object({ certificate: z.string(), authorities: z.string() }) })

/** The two calls by which a gateway tells what it saw itself. Nothing else brings an address into a tag's address list. */
const SIGHTS_BYTES = 2_000_000
export const gatewayMac = operation({
  id: 'fabric-gateway-mac', method: 'POST', path: '/api/v1/fgt/gateway_details/gateway_mac', caller: 'gateway', surface, maxBodyBytes: SIGHTS_BYTES,
  summary: 'Which MAC answers at which address, by the gateway\'s neighbour tables.', body: gatewayMacBody, reply: envelope(rejectedMacs),
})
export const vpn = operation({
  id: 'fabric-vpn', method: 'POST', path: '/api/v1/fgt/gateway_details/vpn', caller: 'gateway', surface, maxBodyBytes: SIGHTS_BYTES,
  summary: 'Which endpoint is at the end of which connection.', body: vpnBody, reply: envelope(rejectedConnections),
})

/** Ours, for administrators: what a gateway may see, and why. */
export const readGatewaySight = operation({ id: 'gateway-sight', method: 'GET', path: '/api/v1/admin/gateways/{serial}/sight', caller: 'administrator', summary: 'What a gateway may see and is told, and why.', params: z.object({ serial: gatewaySerial }), reply: gatewaySight })
export const readEndpointSight = operation({
  id: 'gateway-endpoint-sight', method: 'GET', path: '/api/v1/admin/gateways/{serial}/sight/{uid}', caller: 'administrator', summary: 'Whether a gateway sees an endpoint, its tags and its addresses, and why.',
  params: z.object({ serial: gatewaySerial, uid }), reply: endpointSight,
})

/** Every report table is read by GET (query) and POST (body) alike. */
const table = <D extends z.ZodType>(id: string, path: string, summary: string, data: D) => ({
  get: operation({ id, method: 'GET', path, caller: 'gateway', surface, summary, query: reportQuery, reply: envelope(page(data)) }),
  post: operation({ id: `${id}-post`, method: 'POST', path, caller: 'gateway', surface, summary, body: reportQuery, maxBodyBytes: 128 * 1024, reply: envelope(page(data)) }),
})
export const sysinfo = table('report-sysinfo', '/api/v1/report/fct/sysinfo', 'Endpoint records.', sysinfoData)
export const uidTags = table('report-uid-tags', '/api/v1/report/fct/uid_tags', 'Tags by endpoint.', uidTagsData)
export const tags = table('report-tags', '/api/v1/report/fct/tags', 'Addresses by tag.', tagsData)
export const avatars = table('report-avatars', '/api/v1/report/fct/avatar', 'Avatars by fingerprint.', avatarData)
export const vulns = table('report-vuln', '/api/v1/report/fct/vuln', 'Vulnerabilities by endpoint.', vulnData)
export const olderTags = table('report-fct-host-tags', '/api/v1/report/fct/host_tags', 'Tags in the older form: by name, with members and addresses.', olderTagsData)
const hostTagsSaid = { path: '/api/v1/report/host_tags', caller: 'gateway', surface, summary: 'All tags, without members.', reply: envelope(hostTagsReply) } as const
export const hostTags = operation({ ...hostTagsSaid, id: 'report-host-tags', method: 'GET' })
export const hostTagsPost = operation({ ...hostTagsSaid, id: 'report-host-tags-post', method: 'POST', body: reportQuery })

/** These are no tables, yet published readers look for what they tell in `data.data` as well: it stands in both places. */
const twice = <S extends z.ZodRawShape>(told: z.ZodObject<S>) => told.extend({ data: told })
const AVATARS_AT_ONCE = 20
export const avatarsOf = operation({
  id: 'report-client-avatars', method: 'POST', path: '/api/v1/report/fct/client_avatars', caller: 'gateway', surface, summary: 'Avatars by fingerprint or by user, of endpoints in sight.',
  body: z.object({
    fingerprints: z.array(z.string().max(64)).max(AVATARS_AT_ONCE).optional(),
    users: z.array(z.object({ user_name: z.string().max(256).default(''), domain_name: z.string().max(256).default(''), fct_uid: z.string().max(64).default('') })).max(AVATARS_AT_ONCE).optional(),
  }),
  reply: envelope(twice(clientAvatars)),
})
const snapshotQuery = z.object({
  fctsn: z.string().max(64).default(''), fctguid: z.string().max(64).default(''), start_timestamp: z.coerce.number().int().min(0).default(0),
  limit: z.coerce.number().int().min(0).max(10_000).optional(), offset: z.coerce.number().int().min(0).optional(),
})
const snapshotSaid = { path: '/api/v1/report/fct/snapshot', caller: 'gateway', surface, summary: 'The processes of an endpoint at an event. This EMS keeps no process lists: the list is empty.', reply: envelope(twice(processSnapshot)) } as const
export const snapshot = {
  get: operation({ ...snapshotSaid, id: 'report-snapshot', method: 'GET', query: snapshotQuery }),
  post: operation({ ...snapshotSaid, id: 'report-snapshot-post', method: 'POST', body: snapshotQuery }),
}

const since = z.object({ version: z.object({ updated_after: heldWatermark.optional(), uid_offset: z.string().max(64).optional() }).optional(), sn_list: serialList }).optional()
const statusBody = z.object({ sysinfo: since, vulns: since, avatar: since, host_tags: since, uid_tags: since, tags: since })
const isUpdated = z.object({ is_updated: z.boolean() }).optional()
const statusData = z.object({ sysinfo: isUpdated, vulns: isUpdated, avatar: isUpdated, host_tags: isUpdated, uid_tags: isUpdated, tags: isUpdated })
/**
 * `current` is ours: the gateway's object has read the head of the log for this very question, and the answer speaks of all up to `revision`. It is
 * what the socket's `current` is: a gateway that then has read what changed holds every table at that watermark. `at`: ms, before that reading.
 */
const statusReply = envelope(twice(statusData).extend({ current: z.object({ revision: watermark, at: instant }).optional() }))
export const status = operation({ id: 'report-status-post', method: 'POST', path: '/api/v1/report/fct/status', caller: 'gateway', surface, summary: 'Is there anything after my watermarks?', body: statusBody, reply: statusReply })
export const statusGet = operation({
  id: 'report-status', method: 'GET', path: '/api/v1/report/fct/status', caller: 'gateway', surface, summary: 'Is there anything after one watermark, in any table?',
  query: z.object({ updated_after: heldWatermark.optional(), sn_list: reportQuery.shape.sn_list }), reply: statusReply,
})
/** UIDs of this EMS, and of others that a gateway may serve as well: those are registered nowhere here. */
const anyUid = z.string().regex(/^[0-9A-Za-z-]{1,64}$/, 'must be a UID')
export const subscribe = operation({
  id: 'report-subscribe', method: 'POST', path: '/api/v1/report/fct/subscribe', caller: 'gateway', surface, summary: 'Say which endpoints this gateway cares for.', maxBodyBytes: 256 * 1024,
  body: z.object({
    update: z.array(z.object({
      sn_list: z.array(gatewaySerial).max(100).optional(),
      uids: z.record(anyUid, z.object({ subscribe: z.boolean(), sysinfo_update_time: z.number().int().optional(), host_tags_update_time: z.number().int().optional() })).refine((r) => Object.keys(r).length <= 1000, 'at most 1,000 at once'),
      is_snapshot: z.boolean().default(false),
    })).max(10),
  }),
  reply: envelope(twice(z.object({ subscribed: z.record(z.string(), z.object({ is_registered: z.boolean() })) }))),
})
export const notify = operation({ id: 'fabric-notify', method: 'GET', path: '/api/v1/fabric/notify', caller: 'gateway', surface: 'socket', summary: 'FcmNotify (websocket).', reply: z.undefined() })
