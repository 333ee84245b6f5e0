// How an HTTP operation is declared: as data, once. Servers mount it, clients call it, tests walk it.
import type { z } from 'zod'

/** Who may call: proved by request signature (endpoint, gateway), by token (administrator), or nobody in particular. */
export type Caller = 'nobody' | 'endpoint' | 'gateway' | 'administrator'

type Shape = z.ZodType

export interface Operation<
  Params extends Shape | undefined = Shape | undefined,
  Query extends Shape | undefined = Shape | undefined,
  Body extends Shape | undefined = Shape | undefined,
  Reply extends Shape = Shape,
  By extends Caller = Caller,
> {
  /** Unique, kebab-case; OpenAPI's operationId. */
  readonly id: string
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** With `{name}` for parameters. */
  readonly path: string
  readonly caller: By
  readonly summary: string
  readonly params?: Params
  readonly query?: Query
  readonly body?: Body
  readonly reply: Reply
  /** Largest body in bytes; 16 KiB unless declared. */
  readonly maxBodyBytes?: number
  /** `json` (default), `fabric` (the envelope of the fabric wire), `pem`, `crl` (a revocation list, DER or PEM), or `socket` (a websocket upgrade). */
  readonly surface?: 'json' | 'fabric' | 'pem' | 'crl' | 'socket'
  /** Only `renew` takes a certificate that has expired. */
  readonly acceptsExpired?: boolean
  /** Only joining is signed by a bare key that has no certificate yet. */
  readonly signedByBareKey?: boolean
}

/** Declares one operation and keeps its exact type. */
export function operation<
  Reply extends Shape,
  By extends Caller,
  Params extends Shape | undefined = undefined,
  Query extends Shape | undefined = undefined,
  Body extends Shape | undefined = undefined,
>(declared: Operation<Params, Query, Body, Reply, By>): Operation<Params, Query, Body, Reply, By> {
  return declared
}

/** `undefined` where an operation declares no such part. */
type Declared<S> = Exclude<S, undefined>
type Out<S> = [Declared<S>] extends [never] ? undefined : Declared<S> extends Shape ? z.output<Declared<S>> : undefined
type In<S> = [Declared<S>] extends [never] ? undefined : Declared<S> extends Shape ? z.input<Declared<S>> : undefined

/** What a handler is given: parsed input of an operation. */
export interface Parsed<Op extends Operation> {
  readonly params: Out<Op['params']>
  readonly query: Out<Op['query']>
  readonly body: Out<Op['body']>
}
type Given<Op extends Operation, K extends 'params' | 'query' | 'body'> =
  undefined extends In<Op[K]> ? { readonly [P in K]?: In<Op[K]> } : { readonly [P in K]: In<Op[K]> }
/** What a client gives: unparsed input of an operation. */
export type Call<Op extends Operation> = Given<Op, 'params'> & Given<Op, 'query'> & Given<Op, 'body'>
export type Reply<Op extends Operation> = z.output<Op['reply']>
export type ReplyInput<Op extends Operation> = z.input<Op['reply']>
/** The default limit of a request body. */
export const DEFAULT_MAX_BODY_BYTES = 16 * 1024
