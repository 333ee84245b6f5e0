// The one table of fault codes and their HTTP status. Rendering is done elsewhere, once per surface.
import { z } from 'zod'

/** Fault code → HTTP status and title (RFC 9457 `title`). Clients branch on the code, people read the detail. */
export const faults = {
  malformed: [400, 'The request is not well formed'],
  invalid: [422, 'A value is not acceptable'],
  too_large: [413, 'The body is larger than this operation takes'],
  unsupported_media_type: [415, 'The body must be application/json'],
  method_not_allowed: [405, 'This path does not take that method'],
  not_found: [404, 'Nothing is known under that name'],
  conflict: [409, 'It was changed meanwhile'],
  stale_sequence: [409, 'A later report has already been taken'],
  unauthenticated: [401, 'The caller has not proved who it is'],
  unsigned: [401, 'The request carries no signature'],
  bad_signature: [401, 'The signature does not verify'],
  bad_digest: [401, 'The body is not the one that was signed'],
  bad_certificate: [401, 'The certificate is not acceptable'],
  wrong_purpose: [403, 'The certificate is not for this purpose'],
  certificate_expired: [401, 'The certificate has expired; renew it'],
  certificate_revoked: [403, 'The certificate has been revoked'],
  clock_skew: [401, 'The signature was made too long ago or in the future'],
  replayed: [401, 'The same signed request was seen before'],
  deregistered: [403, 'The endpoint has been deregistered'],
  not_authorised: [403, 'The gateway has not been authorised'],
  forbidden: [403, 'The caller may not do this'],
  invitation_refused: [403, 'The invitation is unknown, used up, expired or withdrawn'],
  no_seat: [409, 'The licence has no free seat'],
  ca_locked: [503, 'The certificate authority is locked: its wrapping key is not configured'],
  busy: [503, 'Try again shortly'],
  upgrade_required: [426, 'This operation is a websocket'],
  too_many: [429, 'Too many requests of this kind'],
  internal: [500, 'Something failed inside the EMS'],
} as const satisfies Record<string, readonly [number, string]>

export type FaultCode = keyof typeof faults
export const faultCode = z.enum(Object.keys(faults) as [FaultCode, ...FaultCode[]])

/** RFC 9457 problem details, with our extensions. `type` is `urn:sallyport:fault:<code>`. */
export const problem = z.object({
  type: z.string(),
  title: z.string(),
  status: z.number().int(),
  code: faultCode,
  detail: z.string(),
  /** Where in the input, as JSON pointers (RFC 6901), with a sentence each. */
  errors: z.array(z.object({ pointer: z.string(), detail: z.string() })).optional(),
  /** The EMS clock in ms, on `clock_skew`, so that a caller can learn its offset. */
  emsTime: z.number().int().optional(),
  /** On `deregistered`: the signed deregistration, so that a device which was away can let go. */
  document: z.string().optional(),
  /** On `stale_sequence`: the last sequence taken. */
  sequence: z.number().int().optional(),
  retryAfterSeconds: z.number().int().optional(),
})
export type Problem = z.infer<typeof problem>

/** What a fault may add to its problem document. */
export type FaultExtras = Partial<Pick<Problem, 'errors' | 'emsTime' | 'document' | 'sequence' | 'retryAfterSeconds'>>

/**
 * A failure with a public sentence for the caller and, as `cause`, the internal one for the log.
 * Expected outcomes of the domain are values, not faults.
 */
export class Fault extends Error {
  override readonly name = 'Fault'
  readonly code: FaultCode
  readonly extras: FaultExtras

  constructor(code: FaultCode, publicMessage: string, options: { cause?: unknown } & FaultExtras = {}) {
    const { cause, ...extras } = options
    super(publicMessage, { cause })
    this.code = code
    this.extras = extras
  }

  get status(): number {
    return faults[this.code][0]
  }
}
