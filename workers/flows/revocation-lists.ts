// The revocation list of each CA, signed anew when something was revoked, and at least every hour. Made on demand: nobody reads it, nothing is done.
import type { Bytes } from '../../identity/encoding.ts'
import { createRevocationList, type RevokedCertificate } from '../../identity/revocation-list.ts'
import { revokedAfter, revokedGateways, revokedSummary } from '../../schema/queries/revoked.ts'
import type { Context } from '../context.ts'
import { everyAuthority } from './authority.ts'

export interface RevocationList { readonly pin: string; readonly der: Bytes }
interface Made { readonly of: string; readonly at: number; readonly lists: readonly RevocationList[] }
/** How long a list is handed out without looking whether something was revoked. */
export const LOOKED_WITHIN_MS = 10_000
const SIGNED_WITHIN_MS = 3_600_000
const ROWS_AT_ONCE = 2_000

let made: Made | null = null
let lookedAt = 0

/** A list for every valid CA, the active first. Each names all that was revoked: serials are random, and name nobody of another CA. */
export async function revocationLists(context: Context): Promise<readonly RevocationList[]> {
  const now = context.now()
  const authorities = await everyAuthority(context)
  const pins = authorities.map(({ pin }) => pin).join()
  if (made !== null && made.of.startsWith(`${pins}/`) && now >= lookedAt && now - lookedAt < LOOKED_WITHIN_MS) return made.lists
  const [endpoints, gateways] = await context.db.batch(revokedSummary(context.db, now))
  const of = [pins, ...[...endpoints, ...gateways].flatMap(({ count, last }) => [count, last])].join('/')
  if (made?.of !== of || now - made.at > SIGNED_WITHIN_MS) {
    const revoked = await readRevoked(context, now)
    made = { of, at: now, lists: await Promise.all(authorities.map(async (authority) => ({ pin: authority.pin, der: await createRevocationList({ authority, revoked, now }) }))) }
  }
  lookedAt = now
  return made.lists
}

async function readRevoked({ db }: Context, now: number): Promise<RevokedCertificate[]> {
  const revoked: RevokedCertificate[] = await revokedGateways(db, now, ROWS_AT_ONCE)
  for (let after = { notAfter: 0, serial: '' }, more = true; more;) {
    const page = await revokedAfter(db, now, after, ROWS_AT_ONCE)
    // Revoked by a release that did not note when: it was not valid from the first.
    revoked.push(...page.map(({ serial, at, issuedAt }) => ({ serial, at: at ?? issuedAt })))
    const last = page.at(-1)
    more = page.length === ROWS_AT_ONCE && last !== undefined
    if (last !== undefined) after = { notAfter: last.notAfter, serial: last.serial }
  }
  return revoked
}
