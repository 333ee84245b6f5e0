// Lifts an operation of the contract onto the wire: read, authenticate, parse, admit with the data, run, answer.
import type { BatchItem } from 'drizzle-orm/batch'
import type { z } from 'zod'
import { DEFAULT_MAX_BODY_BYTES, type Operation, type Parsed, type ReplyInput } from '../../protocol/operation.ts'
import { Fault } from '../../protocol/faults.ts'
import { logEvent, type Context, type KnownCaller } from '../context.ts'
import type { EndpointRow } from '../../schema/endpoint.ts'
import { firstUseOfCertificate } from '../flows/certificates.ts'
import { admitEndpoint, admitGateway, endpointAdmission, gatewayAdmission } from './admit.ts'
import { authenticate, type Claim } from './authenticate.ts'
import { parseJsonBody, readBytes, refuseLarge } from './read-body.ts'

/** Who a handler of that operation is called by; `nobody` may be a bare key that proved itself. */
type CallerOf<Op extends Operation> = Op['caller'] extends 'nobody' ? KnownCaller : Extract<KnownCaller, { kind: Op['caller'] }>

type Statement = BatchItem<'sqlite'>
export interface Handling<Op extends Operation> {
  /** Reads that ride in the caller's admission: authentication costs no trip of its own. `name` is the UID or serial that signed. */
  load?(context: Context, name: string, input: Parsed<Op>): Statement[]
  run(context: Context<CallerOf<Op>>, input: Parsed<Op>, loaded: unknown[]): Promise<ReplyInput<Op> | Response>
}
export interface Route { readonly operation: Operation; answer(context: Context, pathParams: Record<string, string>): Promise<Response> }

/** One operation and what does it. */
export function handle<Op extends Operation>(operation: Op, handling: Handling<Op>): Route {
  return {
    operation,
    async answer(context, pathParams) {
      const maxBytes = operation.body === undefined ? 0 : operation.maxBodyBytes ?? DEFAULT_MAX_BODY_BYTES
      refuseLarge(context.request, maxBytes)
      const { claim, body: bytes } = await authenticate(operation, context, () => readBytes(context.request, maxBytes))
      const input = {
        params: parse(operation.params, pathParams, '/params'),
        query: parse(operation.query, queryOf(new URL(context.request.url).searchParams), '/query'),
        body: operation.body === undefined ? undefined : parse(operation.body, parseJsonBody(context.request, bytes), ''),
      } as Parsed<Op>
      const { caller, loaded } = await admit(operation, context, claim, (name) => handling.load?.(context, name, input) ?? [])
      const reply = await handling.run({ ...context, caller: caller as CallerOf<Op> }, input, loaded)
      return reply instanceof Response ? reply : render(operation, reply)
    },
  }
}

async function admit(operation: Operation, context: Context, claim: Claim, load: (name: string) => Statement[]): Promise<{ caller: KnownCaller; loaded: unknown[] }> {
  if (claim.kind !== 'signed') {
    const statements = load('')
    return { caller: claim, loaded: statements.length === 0 ? [] : await context.db.batch(statements as [Statement, ...Statement[]]) }
  }
  const { signed } = claim
  if (operation.signedByBareKey === true) return { caller: { kind: 'key', signed }, loaded: [] }
  if (operation.caller === 'gateway') {
    const [rows, ...loaded] = await context.db.batch([gatewayAdmission(context.db, signed), ...load(signed.commonName)])
    return { caller: { kind: 'gateway', serial: signed.commonName, signed, gateway: admitGateway(rows) }, loaded }
  }
  const [rows, ...loaded] = await context.db.batch([endpointAdmission(context.db, operation, signed), ...load(signed.commonName)])
  const { endpoint, fresh } = admitEndpoint(rows, signed)
  const callerOf = (row: EndpointRow): KnownCaller => ({ kind: 'endpoint', uid: signed.commonName, signed, endpoint: row })
  // One that ended before it was ever used is not used now: it only asks for another (renewal).
  if (!fresh || (signed.certificate?.notAfter ?? 0) <= context.now()) return { caller: callerOf(endpoint), loaded }
  await firstUseOfCertificate(context, endpoint.uid, signed.serial)
  // The endpoint has another version now, and what was loaded with the one before may be older than it.
  const [again, ...anew] = await context.db.batch([endpointAdmission(context.db, operation, signed), ...load(signed.commonName)])
  return { caller: callerOf(admitEndpoint(again, signed).endpoint), loaded: anew }
}

/** A name that stands there again and again is a list; where one value is wanted, that is none. */
const queryOf = (params: URLSearchParams): Record<string, string | string[]> => Object.fromEntries([...new Set(params.keys())].map((name) => {
  const [first = '', ...more] = params.getAll(name)
  return [name, more.length === 0 ? first : [first, ...more]]
}))

function parse(schema: z.ZodType | undefined, value: unknown, at: string): unknown {
  if (schema === undefined) return undefined
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  throw new Fault('invalid', 'The request has values that are not acceptable.', {
    errors: parsed.error.issues.slice(0, 20).map((issue) => ({ pointer: [at, ...issue.path.map((part) => String(part).replaceAll('~', '~0').replaceAll('/', '~1'))].join('/').slice(0, 256), detail: issue.message.slice(0, 256) })),
  })
}

function render(operation: Operation, reply: unknown): Response {
  if (operation.surface === 'pem') return new Response(String(reply), { headers: { 'content-type': 'application/x-x509-ca-cert' } })
  // A reply that breaks the contract is a fault of ours, not of the caller: it is told in the log and goes out.
  const checked = operation.reply.safeParse(reply)
  if (!checked.success) logEvent('reply-breaks-contract', { operation: operation.id, issues: checked.error.issues.slice(0, 5).map(({ path, message }) => `${path.join('/')}: ${message}`) })
  return Response.json(checked.success ? checked.data : reply, { headers: { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' } })
}
