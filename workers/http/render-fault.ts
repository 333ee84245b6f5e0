// Faults as answers: RFC 9457 problem details, or the envelope of the fabric wire. One place per surface.
import { Fault, faults, type Problem } from '../../protocol/faults.ts'
import type { Operation } from '../../protocol/operation.ts'
import { logEvent } from '../context.ts'

/** Any thrown value as a Fault; what nobody foresaw is `internal` and is logged with its cause. */
export const asFault = (thrown: unknown): Fault => (thrown instanceof Fault ? thrown : new Fault('internal', 'Something failed inside the EMS; its log has the cause.', { cause: thrown }))

export function problemOf(fault: Fault): Problem {
  const [status, title] = faults[fault.code]
  return { type: `urn:sallyport:fault:${fault.code}`, title, status, code: fault.code, detail: fault.message, ...fault.extras }
}

/** The envelope says what the status says: refused to this caller, not there, bad input, or an error. */
const retvalOf = (status: number): -1 | -2 | -5 | -6 => (status === 401 || status === 403 ? -2 : status === 404 ? -5 : [400, 405, 413, 415, 422].includes(status) ? -6 : -1)

export function renderFault(thrown: unknown, operation: Pick<Operation, 'id' | 'surface'> | null): Response {
  const fault = asFault(thrown)
  if (fault.status >= 500) logEvent('fault', { operation: operation?.id ?? null, code: fault.code, message: fault.message, cause: describe(fault.cause) })
  const problem = problemOf(fault)
  const headers: Record<string, string> = { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' }
  if (fault.extras.retryAfterSeconds !== undefined) headers['retry-after'] = String(fault.extras.retryAfterSeconds)
  if (operation?.surface === 'fabric') {
    return Response.json({ result: { retval: retvalOf(fault.status), message: fault.message }, data: {}, problem }, { status: fault.status, headers })
  }
  return Response.json(problem, { status: fault.status, headers: { ...headers, 'content-type': 'application/problem+json' } })
}

/** What a query was given is not told: it holds what people entered, and hashes of secrets. */
const withoutValues = (message: string): string => message.split('\nparams:')[0] ?? ''
const describe = (cause: unknown): string | null => (cause instanceof Error ? `${cause.name}: ${withoutValues(cause.message)}${cause.cause === undefined ? '' : ` (${describe(cause.cause) ?? ''})`}` : typeof cause === 'string' ? cause : null)
