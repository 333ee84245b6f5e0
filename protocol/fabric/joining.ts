// How a gateway joins the fabric and how it is authorised, by the published names.
import { z } from 'zod'
import { certificatePem, csrPem } from '../certificates.ts'
import { gatewaySerial } from '../ids.ts'
import { line, lineOrEmpty } from '../text.ts'

const displayName = line(128)
export const initBody = z.object({
  /** A display name only: the EMS assigns the serial. */
  serial_number: displayName,
  management_ip: z.union([z.ipv4(), z.ipv6(), z.literal('')]).optional(),
  host_name: lineOrEmpty(253).optional(),
  vdom: lineOrEmpty(64).optional(),
  csr: csrPem,
  join_code: z.string().max(512).optional(),
  /** Seconds for which the answer may wait for a decision (our addition): a gateway that waits learns of it at once. */
  wait: z.number().int().min(0).max(10).optional(),
})
export const gatewayState = z.enum(['pending', 'authorised', 'denied'])
export const initData = z.object({
  result: z.object({ retval: z.number().int() }),
  serial: gatewaySerial, state: gatewayState,
  /** SHA-256 of the key (SPKI DER) in colon-separated hex: what both sides show and the administrator compares. */
  fingerprint: z.string(),
  /** Why it is in that state, in a sentence. */
  reason: z.string(),
  /** ms: until when it may wait to be authorised; null when it does not wait. */
  pending_until: z.number().int().nullable().optional(),
  certificate: certificatePem.optional(),
  /** Signed `authorities` document addressed to the serial. */
  authorities: z.string().optional(),
})
export const approveBody = z.object({
  expiry_period: z.number().int().min(1).max(31_536_000).optional(),
  fortigates: z.record(gatewaySerial, z.object({
    authenticate: z.enum(['accept', 'deny']), management_ip: lineOrEmpty(64).optional(), host_name: lineOrEmpty(253).optional(), is_root: z.boolean().optional(), vdom: lineOrEmpty(64).optional(),
  })).refine((r) => Object.keys(r).length <= 100, 'at most 100 at once'),
})
export const approveData = z.object({ expiry: z.object({ expiry_period: z.number().int() }).optional(), authorized: z.array(z.string()), deauthorized: z.array(z.string()) })
export const shareMode = z.union([z.literal(0), z.literal(1), z.literal(2)])
export const updateBody = z.object({
  share_mode: shareMode.optional(),
  selected_cn_list: z.array(gatewaySerial).max(100).optional(),
  share_tag_types: z.array(z.union([z.literal(1), z.literal(2), z.literal(3), z.literal(4)])).max(4).optional(),
  alias: displayName.optional(),
  /** A root gateway may vouch for members (our addition). */
  is_root: z.boolean().optional(),
})
export const updateAuthBody = z.object({ devices_to_update: z.array(z.object({ id: gatewaySerial, authorized: z.boolean(), /** Shown on both sides (our addition). */ reason: lineOrEmpty(256).optional() })).min(1).max(100) })
