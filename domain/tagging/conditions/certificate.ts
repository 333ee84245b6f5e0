// A certificate of the machine's or the user's stores: by subject and issuer, valid now, and for what it may be used. Asked on the device.
import { z } from 'zod'
import { conditionType } from '../condition-type.ts'
import type { InstalledCertificate } from '../device.ts'
import { nothingToWatch } from '../device.ts'
import { textMatch, type TextMatch } from '../text-match.ts'

/** More than a store of a real machine holds; the others are not looked at, and no answer may rest on that. */
const MOST_LOOKED_AT = 1_000

const schema = z.strictObject({
  /** Matched against `C=DE, O=Example, CN=laptop`. */
  subject: textMatch.optional(), issuer: textMatch.optional(),
  /** All of them: `digitalSignature`, `clientAuth`, or a dotted OID. */
  keyUsage: z.array(z.string().regex(/^[A-Za-z0-9.]{1,64}$/)).min(1).max(16).optional(),
  /** Its private key is there too: without it anybody may have the certificate. */
  privateKey: z.literal(true).optional(),
  /** It is valid for at least so much longer. Absent: it is valid now. */
  validForSeconds: z.number().int().min(0).max(315_360_000).optional(),
}).superRefine(({ subject, issuer }, context) => {
  if (subject === undefined && issuer === undefined) context.addIssue({ code: 'custom', path: ['subject'], message: 'name a subject or an issuer' })
})
interface Params {
  readonly subject?: TextMatch | undefined; readonly issuer?: TextMatch | undefined; readonly keyUsage?: readonly string[] | undefined
  readonly privateKey?: true | undefined; readonly validForSeconds?: number | undefined
}

/** null: a name is longer than is worked on. */
function named({ subject, issuer }: Params, certificate: InstalledCertificate): boolean | null {
  const holds = [subject === undefined ? true : subject.holds(certificate.subject), issuer === undefined ? true : issuer.holds(certificate.issuer)]
  return holds.includes(false) ? false : holds.includes(null) ? null : true
}
/** Why a certificate of the right name does not do; null: it does. */
function lacks({ keyUsage = [], privateKey, validForSeconds = 0 }: Params, certificate: InstalledCertificate, now: number): string | null {
  if (certificate.notBefore > now) return 'is not valid yet'
  if (certificate.notAfter <= now) return 'has expired'
  if (certificate.notAfter <= now + validForSeconds * 1000) return 'expires too soon'
  if (privateKey === true && !certificate.hasPrivateKey) return 'has no private key here'
  return keyUsage.every((usage) => certificate.keyUsage.includes(usage)) ? null : 'may not be used for it'
}
const wantedOf = ({ subject, issuer, keyUsage, privateKey }: Params): string =>
  `a valid certificate${subject === undefined ? '' : ` whose subject ${subject.said}`}${issuer === undefined ? '' : ` whose issuer ${issuer.said}`}${keyUsage === undefined ? '' : ` for ${keyUsage.join(', ')}`}${privateKey === true ? ', with its private key' : ''}`.slice(0, 190)
const short = (text: string): string => `"${text.slice(0, 200)}"`

export const certificate = conditionType<Params>({
  type: 'certificate', schema, os: ['linux', 'windows', 'macos'], side: 'agent',
  async observe(params, device, now) {
    const installed = await device.certificates?.() ?? null
    if (installed === null) return { value: 'unknown', seen: 'this agent can not look at certificates' }
    const looked = installed.slice(0, MOST_LOOKED_AT)
    const candidates = looked.filter((each) => named(params, each) === true).sort((a, b) => (a.subject < b.subject ? -1 : 1))
    const good = candidates.find((each) => lacks(params, each, now) === null)
    if (good !== undefined) return { value: 'true', seen: `${short(good.subject)}, valid until ${new Date(good.notAfter).toISOString().slice(0, 10)}` }
    if (looked.length < installed.length || looked.some((each) => named(params, each) === null)) return { value: 'unknown', seen: 'not every certificate can be looked at' }
    const [first] = candidates
    return { value: 'false', seen: first === undefined ? 'none of that name' : `${short(first.subject)} ${lacks(params, first, now) ?? ''}` }
  },
  watch: () => nothingToWatch,
  wanted: wantedOf,
  mend: (params, negate) => `${negate ? 'Remove' : 'Install'} ${wantedOf(params)}.`,
})
