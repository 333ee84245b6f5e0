// Signed documents: whatever changes what an agent or gateway does. JWS compact (RFC 7515), ES256, signing certificate in `x5c`.
import { z } from 'zod'
import { certificateSerial } from './ids.ts'
import { instant, sha256Hex } from './text.ts'
import { agentRules } from './rules.ts'
import { assignedProfile, licenceState } from './profile.ts'

/** Says that the endpoint is no longer managed; the agent lets go of certificate, proxy and profile. */
export const deregistration = z.object({ reason: z.string() })
/** Every CA that is trusted now, PEM, the active one first. */
export const authorities = z.object({ certificates: z.array(z.string()), crl: z.array(certificateSerial).optional() })
/** Proof that this EMS holds the pinned CA: the challenge comes back signed, for the address it was asked under. */
export const introduction = z.object({ challenge: sha256Hex, authority: z.string(), emsSerial: z.string(), emsTime: instant, certificates: z.array(z.string()) })

/** Document kind → body. The JWS header's `typ` is `sallyport-<kind>+jws`. */
export const documentBodies = {
  profile: assignedProfile, rules: agentRules, licence: licenceState, deregistration, authorities, introduction,
} as const
export type DocumentKind = keyof typeof documentBodies
export const documentKind = z.enum(Object.keys(documentBodies) as [DocumentKind, ...DocumentKind[]])

/** The payload of every signed document. */
export interface DocumentPayload<K extends DocumentKind = DocumentKind> {
  kind: K
  /** The UID or gateway serial it is addressed to; `*` only for `introduction`. */
  to: string
  /** ms: the signer's instant. A reader refuses what is older than what it holds. */
  version: number
  body: z.infer<(typeof documentBodies)[K]>
}
/** A document on the wire. */
export const signedDocument = z.string().max(512 * 1024).regex(/^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/)
/** Which versions of each standing document the agent holds; 0 for none. */
export const documentVersions = z.object({ profile: instant, rules: instant, licence: instant, authorities: instant })
export type DocumentVersions = z.infer<typeof documentVersions>
