// Certificates of an endpoint in the records: issued, first used, revoked. Each change is told to the gateways.
import { and, eq, inArray, sql } from 'drizzle-orm'
import { issueCertificate, type IssuedCertificate } from '../../identity/authority.ts'
import type { CertificateRecord } from '../../protocol/certificates.ts'
import { Fault } from '../../protocol/faults.ts'
import { readCsr } from '../../identity/request.ts'
import { certificates, type EndpointRow } from '../../schema/endpoint.ts'
import { unchanged, type Guard } from '../../schema/queries/guarded.ts'
import type { Context } from '../context.ts'
import { activeAuthority } from './authority.ts'
import { changeEndpoint } from './change-endpoint.ts'

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
  .select(sql`SELECT ${row.serial}, ${row.uid}, ${row.purpose}, ${row.osUser ?? ''}, ${row.keyHash}, ${row.pem}, ${row.notAfter}, ${row.state}, ${row.issuedAt} WHERE ${unchanged(guard)}`)

/**
 * Issues a certificate for the key of a CSR. The same key asking again gets the same certificate: a lost reply harms nobody.
 * An agent's is `fresh` until first used; there is at most one such, an earlier one that was never used is retired.
 */
export async function certify(context: Context, uid: string, csrText: string, wanted: { purpose: 'agent' | 'browser'; osUser: string }): Promise<string> {
  const csr = await requireCsr(csrText)
  const live = await context.db.select().from(certificates).where(and(eq(certificates.uid, uid), eq(certificates.purpose, wanted.purpose), inArray(certificates.state, [...LIVE_STATES])))
  const now = context.now()
  const same = live.find(({ keyHash, notAfter, osUser }) => keyHash === csr.publicKeyHash && osUser === wanted.osUser && notAfter > now)
  if (same !== undefined && (wanted.purpose === 'browser' || same.state === 'fresh')) return same.pem
  const issued = await issueCertificate({ authority: await activeAuthority(context), publicKeySpki: csr.publicKeySpki, purpose: wanted.purpose, commonName: uid, now })
  const replaced = live.filter(({ osUser, state }) => (wanted.purpose === 'browser' ? osUser === wanted.osUser : state === 'fresh')).map(({ serial }) => serial)
  if (wanted.purpose === 'browser' && live.length - replaced.length >= MAX_BROWSER_CERTIFICATES) throw new Fault('too_many', `An endpoint may hold ${MAX_BROWSER_CERTIFICATES} browser certificates.`)
  await changeEndpoint(context, uid, (endpoint) => ({
    set: { certificates: JSON.stringify([...without(endpoint, replaced, now), recordOf(issued, wanted)]) }, tables: ['sysinfo'],
    also: (guard) => [
      ...(replaced.length === 0 ? [] : [setState(context, guard, replaced, 'retired')]),
      insertCertificate(context, guard, { serial: issued.serial, uid, purpose: wanted.purpose, osUser: wanted.osUser, keyHash: issued.publicKeyHash, pem: issued.pem, notAfter: issued.notAfter, state: wanted.purpose === 'agent' ? 'fresh' : 'current', issuedAt: now }),
    ],
  }))
  return issued.pem
}
const recordOf = (issued: IssuedCertificate, { purpose, osUser }: { purpose: 'agent' | 'browser'; osUser: string }): CertificateRecord => ({ serial: issued.serial, purpose, user: osUser, notAfter: issued.notAfter })

const setState = ({ db }: Context, guard: Guard, serials: readonly string[], state: 'retired' | 'revoked' | 'current') => db.update(certificates).set({ state })
  .where(sql`${certificates.uid} = ${guard.uid} AND ${certificates.serial} IN (SELECT value FROM json_each(${JSON.stringify(serials)})) AND ${unchanged(guard)}`)

/** The first request signed with a fresh certificate: it becomes current and the agent's others are retired. */
export async function firstUseOfCertificate(context: Context, endpoint: EndpointRow, serial: string): Promise<EndpointRow> {
  const older = recordsOf(endpoint).filter((record) => record.purpose === 'agent' && record.serial !== serial).map((record) => record.serial)
  return await changeEndpoint(context, endpoint.uid, (row) => ({
    set: { certificates: JSON.stringify(without(row, older, context.now())) }, tables: older.length === 0 ? [] : ['sysinfo'],
    also: (guard) => [setState(context, guard, [serial], 'current'), ...(older.length === 0 ? [] : [setState(context, guard, older, 'retired')])],
  }))
}

/** Revokes one certificate at once, whatever its purpose. */
export async function revokeCertificate(context: Context, uid: string, serial: string): Promise<void> {
  const [row] = await context.db.select().from(certificates).where(and(eq(certificates.serial, serial), eq(certificates.uid, uid)))
  if (row === undefined) throw new Fault('not_found', 'The endpoint has no such certificate.')
  if (row.state === 'revoked') return
  await changeEndpoint(context, uid, (endpoint) => ({ set: { certificates: JSON.stringify(without(endpoint, [serial], context.now())) }, tables: ['sysinfo'], also: (guard) => [setState(context, guard, [serial], 'revoked')] }))
  if (row.purpose === 'agent') await context.env.ENDPOINT_CHANNEL.getByName(uid.slice(0, 1)).end(uid, serial, 'revoked')
}

/** Every certificate of an endpoint, for deregistration. */
export const revokeAll = ({ db }: Context, guard: Guard) => db.update(certificates).set({ state: 'revoked' })
  .where(sql`${certificates.uid} = ${guard.uid} AND ${certificates.state} IN ('fresh', 'current') AND ${unchanged(guard)}`)
