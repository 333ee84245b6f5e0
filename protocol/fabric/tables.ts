// The rows of the report tables, by their published names. These names are used nowhere but here and in the mappers.
import { z } from 'zod'
import { certificateRecord } from '../certificates.ts'
import { ownership } from '../ownership.ts'

const text = z.string()
/** One endpoint. `ip`, `mac` and `vdom` are required by the published schema; empty when unknown. */
export const sysinfoRecord = z.object({
  uid: text,
  /** Seconds since the epoch. */
  sysinfo_update_time: z.number().int(),
  is_registered: z.boolean(), online: z.boolean(), onnet: z.boolean(), quarantined: z.boolean(),
  hostname: text, domain: text, user_name: text,
  user_info: z.object({
    user_ext_name: text, user_email: text, service: text, phone: text, user_office: text, user_country: text, user_city: text,
    user_title: text, user_department: text, user_company: text, user_manager: text, employee_id: text, user_group_name: text,
  }),
  /** Our additions: every social id, and every valid certificate (`client_cert_sn` is the agent's own). */
  social_ids: z.array(z.object({ service: text, account_id: text })),
  client_certs: z.array(z.object({ sn: text, purpose: certificateRecord.shape.purpose, user: text, not_after: z.number().int() })),
  avatar_fingerprint: text,
  os_type: text, os_ver: text, fct_ver: z.array(z.number().int()), fct_build_no: z.number().int(), fct_sn: text, client_cert_sn: text,
  ip: text, public_ip: text, mac: text, mac_list: z.array(text), vdom: text,
  /** Whose device it is (our addition); absent: not known. */
  ownership: ownership.optional(),
  /** Whom an identity provider vouched for (our addition), instants in seconds; absent: nobody. */
  verified_user: z.object({
    issuer: text, subject: text, email: text.optional(), name: text.optional(), groups: z.array(text).optional(),
    authenticated_at: z.number().int(), expires_at: z.number().int().nullable(),
  }).optional(),
  /** Every address of its interfaces, `ip` among them (our addition). */
  ip_list: z.array(text).optional(),
  gateway_route_list: z.array(z.object({
    gateway_info: z.object({ fgt_sn: text, interface: text, vdom: text }),
    route_info: z.array(z.object({ ip: text, mac: text, route_type: text })),
  })),
  group_name: text, hardware_sn: text, host_manufacturer: text, host_model: text, cpu: text, memory: text,
  av_running: z.boolean(), vuln_scan_running: z.boolean(),
  feature_av: text, feature_fw: text, feature_wf: text, feature_as: text, feature_vpn: text, feature_vs: text,
  vuln_stats: z.object({ scan_time: z.number().int(), critical: z.number().int(), high: z.number().int(), medium: z.number().int(), low: z.number().int(), info: z.number().int() }),
})
export type SysinfoRecord = z.infer<typeof sysinfoRecord>
/** Keyed by UID. */
export const sysinfoData = z.record(text, sysinfoRecord)
/** As a notice carries it: a UID mapped to null has left this gateway's sight. */
export const sysinfoIncrement = z.record(text, sysinfoRecord.nullable())

export const tagProperties = z.object({ name: text, type: z.number().int(), detection_level: text, description: text })
export const uidTags = z.object({
  members: z.array(z.object({ tag_uid: text, tag_name: text, tag_properties: tagProperties, valid_until: z.number().int().nullable() })),
  /** Tags about which nothing certain is known for this endpoint (our addition). */
  unknown: z.array(text),
  /** The earliest instant, ms, at which an unknown could change by time alone; null: never (our addition). */
  valid_until: z.number().int().nullable(),
  host_tag_update_time: z.number().int(),
})
export type UidTags = z.infer<typeof uidTags>
export const uidTagsData = z.object({ uid_tag_lists: z.record(text, uidTags) })
/** As a notice carries it: a UID mapped to null has left this gateway's sight, or nothing is known of its tags any more. */
export const uidTagsIncrement = z.object({ uid_tag_lists: z.record(text, uidTags.nullable()) })

export const hostTag = z.object({ tag_uid: text, name: text, type: z.number().int(), description: text, detection_level: text })
export type HostTag = z.infer<typeof hostTag>
export const hostTagsReply = z.object({ ems_version: text, data: z.array(hostTag) })

/** Tag → addresses, for packet filters that know addresses only. */
export const tagsData = z.object({
  command_version: z.number().int(), serial: text, device_type: text, send_mac: z.boolean(), no_vdom: z.boolean(),
  commands: z.array(z.object({
    uuid: text, tag_properties: tagProperties, type: z.enum(['ipblock', 'mac']), values: z.array(text),
    /** ms: the earliest instant at which a value ends by time alone; null: none does (our addition). */
    valid_until: z.number().int().nullable(),
  })),
})
/** The older form, by names of tags: for readers that know neither `uid_tags` nor `tags`. */
export const olderTagsData = z.object({
  is_snapshot: z.boolean(), tag_info: z.record(text, z.object({ description: text })),
  tag_members: z.record(text, z.object({ ip_list: z.array(text), mac_list: z.array(text) })),
  uid_tag_lists: z.record(text, z.array(text)), uid_info: z.record(text, z.object({ host_tag_update_time: z.number().int() })),
})
export const vulnData = z.object({
  forticlients: z.record(text, z.object({ fgt_sn: text, vdom: text, scan_time: z.number().int(), hostname: text, ip: text, mac: text, user_name: text, vuln_ids: z.array(text) })),
  vulns: z.record(text, z.object({ vuln_name: text, category: text, severity: text, vendor_url: text, cve_ids: z.array(text) })),
})
export const avatarData = z.record(text, z.object({ avatar: text }))

/** A picture, and whose it is. */
export const clientAvatars = z.object({ avatars: z.array(z.object({ fingerprint: text, avatar: text, user_name: text, domain_name: text, fct_uid: text })) })
/** The processes of an endpoint at an event. */
export const processSnapshot = z.object({
  timestamp: z.number().int(), emssn: text, vdom: text, fctsn: text, guid: text, evtype: text, info_type: text,
  info: z.object({ procinfolist: z.array(z.object({ pid: z.number().int(), path: text })) }),
})

/** The tables a gateway follows, as named in `status`, `hello` and notices. */
export const tableName = z.enum(['sysinfo', 'uid_tags', 'tags', 'host_tags', 'vuln', 'avatar'])
export type TableName = z.infer<typeof tableName>
