// Whether our records admit a caller who proved a key: asked in the same trip as the operation's own data.
import { and, eq, ne, or, sql } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import type { SignedCaller } from '../../identity/request-signature.ts'
import { Fault } from '../../protocol/faults.ts'
import type { Operation } from '../../protocol/operation.ts'
import { certificates, endpoints, type EndpointRow } from '../../schema/endpoint.ts'
import { gateways, type GatewayRow } from '../../schema/gateway.ts'

/** The agent's certificate that was in use before the present one. */
const previousSerial = (uid: string) => sql<string | null>`(SELECT p.serial FROM certificates p WHERE p.uid = ${uid} AND p.purpose = 'agent' AND p.state = 'retired' ORDER BY p.issued_at DESC LIMIT 1)`

/** The endpoint and the state of the certificate that signed; which one was before it only where that matters. */
export const endpointAdmission = (db: DrizzleD1Database, operation: Operation, signed: SignedCaller) =>
  db.select({ endpoint: endpoints, state: certificates.state, keyHash: certificates.keyHash, previous: operation.acceptsExpired === true ? previousSerial(signed.commonName) : sql<string | null>`NULL` })
    .from(certificates).innerJoin(endpoints, eq(endpoints.uid, certificates.uid))
    .where(and(eq(certificates.serial, signed.serial), eq(certificates.uid, signed.commonName)))

/** One that is no longer authorised has no certificate in the records; it is found all the same, to be told why. */
export const gatewayAdmission = (db: DrizzleD1Database, signed: SignedCaller) =>
  db.select().from(gateways).where(and(eq(gateways.serial, signed.commonName), or(eq(gateways.certificateSerial, signed.serial), eq(gateways.previousSerial, signed.serial), ne(gateways.state, 'authorised'))))

export interface AdmittedEndpoint { readonly endpoint: EndpointRow; readonly fresh: boolean }

type Admission = Awaited<ReturnType<typeof endpointAdmission>>
/** Refuses what the records refuse. The previous certificate may still ask for a new one: a device restored from a backup has no other. */
export function admitEndpoint(rows: Admission, signed: SignedCaller): AdmittedEndpoint {
  const row = rows[0]
  if (row === undefined || row.keyHash !== signed.publicKeyHash) throw new Fault('bad_certificate', 'The certificate is not in the records of this EMS.')
  if (!row.endpoint.registered) {
    throw new Fault('deregistered', 'The endpoint has been deregistered by an administrator.', row.endpoint.deregistration === null ? {} : { document: row.endpoint.deregistration })
  }
  if (row.state === 'revoked' || (row.state === 'retired' && row.previous !== signed.serial)) throw new Fault('certificate_revoked', 'The certificate is no longer valid.')
  return { endpoint: row.endpoint, fresh: row.state === 'fresh' }
}

/** @param now ms; a vouching that has ended is over at that instant, whoever writes it down */
export function admitGateway(rows: readonly GatewayRow[], now = Date.now()): GatewayRow {
  const gateway = rows[0]
  if (gateway === undefined) throw new Fault('bad_certificate', 'The certificate is not in the records of this EMS.')
  if (gateway.state !== 'authorised') throw new Fault('not_authorised', gateway.reason)
  if (gateway.vouchedUntil !== null && gateway.vouchedUntil <= now) throw new Fault('not_authorised', 'The time for which the root gateway vouched is over.')
  return gateway
}
