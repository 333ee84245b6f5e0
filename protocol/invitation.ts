// The one string that an agent or a gateway needs to find its EMS and to know it: address, CA pin, code. Both halves of the format.
import { z } from 'zod'
import { sha256Hex } from './text.ts'

export const INVITATION_PREFIX = 'sp1.'
export const JOIN_CODE_PREFIX = 'sj1.'
const contents = z.strictObject({
  /** https origin of the EMS, without a path. */
  ems: z.url({ protocol: /^https$/ }).max(512).refine((u) => new URL(u).origin === u, 'must be an origin like https://ems.example.com'),
  /** SHA-256 of the CA certificate's DER: whoever answers must hold that CA. */
  pin: sha256Hex,
  code: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
})
export type Invitation = z.infer<typeof contents>

const toBase64Url = (text: string) => btoa(text).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '')

/** Writes an invitation (`sp1.`) or a join code (`sj1.`). */
export const writeInvitation = (prefix: typeof INVITATION_PREFIX | typeof JOIN_CODE_PREFIX, invitation: Invitation): string =>
  prefix + toBase64Url(JSON.stringify(contents.parse(invitation)))

/** Reads one; null when it is not of that kind, damaged, or not in the form above. */
export function readInvitation(prefix: typeof INVITATION_PREFIX | typeof JOIN_CODE_PREFIX, text: string): Invitation | null {
  if (!text.startsWith(prefix) || text.length > 2048) return null
  try {
    const parsed = contents.safeParse(JSON.parse(atob(text.slice(prefix.length).replaceAll('-', '+').replaceAll('_', '/'))))
    return parsed.success ? parsed.data : null
  } catch {
    return null // not base64 or not JSON: a damaged invitation, which the caller reports
  }
}
