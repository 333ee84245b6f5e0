// Certificates of an endpoint in the records: issued, first used, revoked. Each change is told to the gateways.
import { and, eq, inArray, sql } from 'drizzle-orm'
import { issueCertificate } from '../../identity/authority.ts'
import type { Bytes } from '../../identity/encoding.ts'
import type { CertificateRecord } from '../../protocol/certificates.ts'
import { Fault } from '../../protocol/faults.ts'
import { readCsr } from '../../identity/request.ts'
import { certificates, endpoints, type EndpointRow } from '../../schema/endpoint.ts'
import { unchanged, type Guard } from '../../schema/queries/guarded.ts'
import type { Context } from '../context.ts'
import { activeAuthority } from './authority.ts'
import { changeEndpoint } from './change-endpoint.ts'

const ATTEMPTS = 5
const LIVE_STATES = ['fresh', 'current'] as const
/** Browser certificates an endpoint may hold: one per OS user and store. */
const MAX_BROWSER_CERTIFICATES = 32

export const recordsOf = (endpoint: EndpointRow): CertificateRecord[] => JSON.parse(endpoint.certificates) as CertificateRecord[]
const without = (endpoint: EndpointRow, serials: readonly string[], now: number) => recordsOf(endpoint).filter(({ serial, notAfter }) => !serials.includes(serial) && notAfter > now)

/** Reads a CSR or refuses it. */
export async function requireCsr(pem: string) {
  const csr = await readCsr(pem)
  if (csr === null) throw new Fault('invalid', 'The certificate request is not one on P-256 that its own key signed.', { errors: [{ pointer: '/csr', detail: 'must be a PKCS #10 request, ECDSA P-256' }] })
  return csr
}

const insertCertificate = ({ db }: Context, guard: Guard, row: typeof certificates.$inferInsert) => db.insert(certificates)
  .select(sql`SELECT ${row.serial}, ${row.uid}, ${row.purpose}, ${row.osUser ?? ''}, ${row.keyHash}, ${row.pem}, ${row.notAfter}, ${row.state}, ${row.issuedAt}, NULL WHERE ${unchanged(guard)}`)

interface Wanted { readonly purpose: 'agent' | 'browser'; readonly osUser: string }

/**
 * Issues a certificate for the key of a CSR. The same key asking again gets the same certificate: a lost reply harms nobody.
 * An agent's is `fresh` until first used; there is at most one such, an earlier one that was never used is revoked.
 * A browser's stands beside the others of its user: there is one for each store.
 * @param signedBy serial of the certificate that asks; it is never the one replaced
 */
export async function certify(context: Context, uid: string, csrText: string, wanted: Wanted, signedBy: string): Promise<string> {
  const csr = await requireCsr(csrText)
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const pem = await certifyOnce(context, uid, csr, wanted, signedBy)
    if (pem !== null) return pem
  }
  throw new Fault('busy', 'The endpoint is being changed by others; try again.', { retryAfterSeconds: 1 })
}

/** null: the endpoint was changed meanwhile, so that its certificates are no longer those this was computed with. */
async function certifyOnce(context: Context, uid: string, csr: { publicKeySpki: Bytes; publicKeyHash: string }, { purpose, osUser }: Wanted, signedBy: string): Promise<string | null> {
  const { db } = context
  const [[seen], live, spent] = await db.batch([
    db.select({ version: endpoints.version, registered: endpoints.registered, deregistration: endpoints.deregistration }).from(endpoints).where(eq(endpoints.uid, uid)),
    db.select().from(certificates).where(and(eq(certificates.uid, uid), eq(certificates.purpose, purpose), inArray(certificates.state, [...LIVE_STATES]))),
    db.select({ serial: certificates.serial }).from(certificates).where(and(eq(certificates.uid, uid), eq(certificates.purpose, purpose), eq(certificates.keyHash, csr.publicKeyHash), eq(certificates.state, 'revoked'))).limit(1),
  ])
  if (seen?.registered !== true) throw new Fault('deregistered', 'The endpoint has been deregistered by an administrator.', seen?.deregistration == null ? {} : { document: seen.deregistration })
  const now = context.now()
  const same = live.find((held) => held.keyHash === csr.publicKeyHash && held.osUser === osUser && held.notAfter > now && (purpose === 'browser' || held.state === 'fresh'))
  if (same !== undefined) {
    await changeEndpoint(context, uid, () => 'tell-again')
    return same.pem
  }
  // A browser's database gives its key to any process of that user: whoever took it must not be served again with the next certificate.
  if (purpose === 'browser' && spent.length > 0) throw new Fault('conflict', 'A certificate for that key was revoked; ask with a new key.')
  const replaced = purpose === 'browser' ? [] : live.filter(({ state, serial }) => state === 'fresh' && serial !== signedBy).map(({ serial }) => serial)
  if (purpose === 'browser' && live.filter(({ notAfter }) => notAfter > now).length >= MAX_BROWSER_CERTIFICATES) throw new Fault('too_many', `An endpoint may hold ${MAX_BROWSER_CERTIFICATES} browser certificates.`)
  const issued = await issueCertificate({ authority: await activeAuthority(context), publicKeySpki: csr.publicKeySpki, purpose, commonName: uid, now })
  const record: CertificateRecord = { serial: issued.serial, purpose, user: osUser, notAfter: issued.notAfter }
  const row = { serial: issued.serial, uid, purpose, osUser, keyHash: issued.publicKeyHash, pem: issued.pem, notAfter: issued.notAfter, state: purpose === 'agent' ? 'fresh' as const : 'current' as const, issuedAt: now }
  let overtaken = false
  await changeEndpoint(context, uid, (endpoint) => {
    overtaken = endpoint.version !== seen.version
    return overtaken ? null : {
      set: { certificates: JSON.stringify([...without(endpoint, replaced, now), record]) }, tables: ['sysinfo'],
      also: (guard) => [...(replaced.length === 0 ? [] : [setState(context, guard, replaced, 'revoked')]), insertCertificate(context, guard, row)],
    }
  })
  return overtaken ? null : issued.pem
}
const setState = ({ db, now }: Context, guard: Guard, serials: readonly string[], state: 'revoked' | 'current') => db.update(certificates).set({ state, endedAt: state === 'current' ? null : now() })
  .where(sql`${certificates.uid} = ${guard.uid} AND ${certificates.serial} IN (SELECT value FROM json_each(${JSON.stringify(serials)})) AND ${unchanged(guard)}`)

/** The first request signed with a fresh certificate: it becomes current and the agent's others are retired. */
export async function firstUseOfCertificate(context: Context, uid: string, serial: string): Promise<EndpointRow> {
  return await changeEndpoint(context, uid, (row) => {
    const records = recordsOf(row)
    // Revoked since it was admitted: being used must not bring it back.
    if (!records.some((record) => record.serial === serial)) throw new Fault('certificate_revoked', 'The certificate is no longer valid.')
    const older = records.filter((record) => record.purpose === 'agent' && record.serial !== serial).map((record) => record.serial)
    return { set: { certificates: JSON.stringify(without(row, older, context.now())) }, tables: ['sysinfo'], also: (guard) => [retireOthers(context, guard, serial), setState(context, guard, [serial], 'current')] }
  })
}
const retireOthers = ({ db, now }: Context, guard: Guard, serial: string) => db.update(certificates).set({ state: 'retired', endedAt: now() })
  .where(sql`${certificates.uid} = ${guard.uid} AND ${certificates.purpose} = 'agent' AND ${certificates.state} IN ('fresh', 'current') AND ${certificates.serial} <> ${serial} AND ${unchanged(guard)}`)

/** Revokes one certificate at once, whatever its purpose. Idempotent: repeated after a lost reply, whoever was not told is told. */
export async function revokeCertificate(context: Context, uid: string, serial: string): Promise<void> {
  const [row] = await context.db.select().from(certificates).where(and(eq(certificates.serial, serial), eq(certificates.uid, uid)))
  if (row === undefined) throw new Fault('not_found', 'The endpoint has no such certificate.')
  try {
    await changeEndpoint(context, uid, (endpoint) => (row.state === 'revoked' ? 'tell-again' : {
      set: { certificates: JSON.stringify(without(endpoint, [serial], context.now())) }, tables: ['sysinfo'], also: (guard) => [setState(context, guard, [serial], 'revoked')],
    }))
  } finally {
    // Whether or not every gateway has acknowledged; an agent whose certificate stands after all opens its channel anew.
    const channel = context.env.ENDPOINT_CHANNEL.getByName(uid.slice(0, 1))
    if (row.purpose === 'agent') await channel.end(uid, serial, 'revoked')
    // The reply to its report names the browser certificates that are good; it would learn of it with the next one.
    else await channel.push(uid, { type: 'report-now' })
  }
}

/** Every certificate of an endpoint, for deregistration. */
export const revokeAll = ({ db, now }: Context, guard: Guard) => db.update(certificates).set({ state: 'revoked', endedAt: now() })
  .where(sql`${certificates.uid} = ${guard.uid} AND ${certificates.state} IN ('fresh', 'current') AND ${unchanged(guard)}`)
