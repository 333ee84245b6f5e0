// Faults as answers: RFC 9457 problem details, or the envelope of the fabric wire. One place per surface.
import { Fault, faults, type FaultCode, type Problem } from '../../protocol/faults.ts'
import type { Operation } from '../../protocol/operation.ts'
import { logEvent } from '../context.ts'

/** Any thrown value as a Fault; what nobody foresaw is `internal` and is logged with its cause. */
export const asFault = (thrown: unknown): Fault => (thrown instanceof Fault ? thrown : new Fault('internal', 'Something failed inside the EMS; its log has the cause.', { cause: thrown }))

export function problemOf(fault: Fault): Problem {
  const [status, title] = faults[fault.code]
  return { type: `urn:sallyport:fault:${fault.code}`, title, status, code: fault.code, detail: fault.message, ...fault.extras }
}

const retvals: Partial<Record<FaultCode, -2 | -5 | -6>> = {
  unsigned: -2, bad_signature: -2, bad_digest: -2, bad_certificate: -2, wrong_purpose: -2, certificate_expired: -2, certificate_revoked: -2, clock_skew: -2, replayed: -2,
  not_authorised: -2, unauthenticated: -2, forbidden: -2, not_found: -5, malformed: -6, invalid: -6, too_large: -6, unsupported_media_type: -6,
}

export function renderFault(thrown: unknown, operation: Pick<Operation, 'id' | 'surface'> | null): Response {
  const fault = asFault(thrown)
  if (fault.status >= 500) logEvent('fault', { operation: operation?.id ?? null, code: fault.code, message: fault.message, cause: describe(fault.cause) })
  const problem = problemOf(fault)
  const headers: Record<string, string> = { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' }
  if (fault.extras.retryAfterSeconds !== undefined) headers['retry-after'] = String(fault.extras.retryAfterSeconds)
  if (operation?.surface === 'fabric') {
    return Response.json({ result: { retval: retvals[fault.code] ?? -1, message: fault.message }, data: {}, problem }, { status: fault.status, headers })
  }
  return Response.json(problem, { status: fault.status, headers: { ...headers, 'content-type': 'application/problem+json' } })
}

/** What a query was given is not told: it holds what people entered, and hashes of secrets. */
const withoutValues = (message: string): string => message.split('\nparams:')[0] ?? ''
const describe = (cause: unknown): string | null => (cause instanceof Error ? `${cause.name}: ${withoutValues(cause.message)}${cause.cause === undefined ? '' : ` (${describe(cause.cause) ?? ''})`}` : typeof cause === 'string' ? cause : null)
