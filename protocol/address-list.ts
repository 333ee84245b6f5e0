// An address list as a gateway signs it: which addresses bear a Zero Trust tag, by whose sight, and until when that may be believed.
import { z } from 'zod'
import { watermark } from './fabric/envelope.ts'
import { gatewaySerial } from './ids.ts'
import { tagName } from './rules.ts'
import { instant } from './text.ts'

/** `current`: as it is. `stale`: the gateway may vouch for nobody now. `no-such-tag`: the EMS has told of no tag with that name. The last two are empty. */
export const listState = z.enum(['current', 'stale', 'no-such-tag'])
export type ListState = z.infer<typeof listState>
/** `ip`: IPv4 and IPv6. */
export const listFamily = z.enum(['ip', 'ip4', 'ip6', 'mac'])
export type ListFamily = z.infer<typeof listFamily>

export const addressList = z.strictObject({
  gateway: gatewaySerial, tag: tagName, family: listFamily, state: listState, revision: watermark,
  /** ms; what is older than `until` must not be used. */
  at: instant, until: instant,
  addresses: z.array(z.string().max(64)),
})
export type AddressList = z.infer<typeof addressList>
