// Spending an invitation: one guarded batch that makes an endpoint, or nothing.
import { and, eq, sql } from 'drizzle-orm'
import { issueCertificate } from '../../identity/authority.ts'
import { toHex } from '../../identity/encoding.ts'
import { secretHash } from '../../identity/keys.ts'
import { seatFor } from '../../domain/licensing/seat.ts'
import { entryOf } from '../../durable-objects/log-entry.ts'
import { Fault } from '../../protocol/faults.ts'
import type { enrol } from '../../protocol/operations/public.ts'
import type { Parsed } from '../../protocol/operation.ts'
import { certificates, endpoints, type EndpointRow } from '../../schema/endpoint.ts'
import { invitations, invitationSpends } from '../../schema/invitation.ts'
import { licences } from '../../schema/rules.ts'
import { insertLog } from '../../schema/queries/guarded.ts'
import { gatewaysConcerned } from '../../schema/queries/interest.ts'
import { logTail } from '../../schema/queries/log-tail.ts'
import type { Context } from '../context.ts'
import { activeAuthority } from './authority.ts'
import { requireCsr } from './certificates.ts'
import { newMark } from './commit-endpoint.ts'
import { pokeGateways } from './poke.ts'
import { sysinfoRecord } from './sysinfo-record.ts'

/** How long the same key may ask again after a lost reply. */
const SAME_KEY_WITHIN_MS = 3_600_000
const refused = () => new Fault('invitation_refused', 'The invitation is unknown, used up, expired or withdrawn; ask for a new one.')

/** @returns the endpoint and the certificate; the same ones when the same key asks again within an hour. */
export async function enrolEndpoint(context: Context, body: Parsed<typeof enrol>['body']): Promise<{ endpoint: EndpointRow; certificate: string }> {
  const csr = await requireCsr(body.csr)
  const codeHash = await secretHash(body.invitation)
  const { db } = context
  const now = context.now()
  const [found, [spent], [licence], taken] = await db.batch([
    db.select().from(invitations).where(eq(invitations.codeHash, codeHash)),
    db.select({ at: invitationSpends.at, uid: invitationSpends.uid }).from(invitationSpends).innerJoin(invitations, eq(invitations.id, invitationSpends.invitationId))
      .where(and(eq(invitations.codeHash, codeHash), eq(invitationSpends.keyHash, csr.publicKeyHash))),
    db.select().from(licences),
    db.select({ count: sql<number>`count(*)` }).from(endpoints).where(eq(endpoints.registered, true)),
  ])
  const [invitation] = found
  if (invitation === undefined) throw refused()
  if (spent !== undefined) return await again(context, spent, csr.publicKeyHash)
  if (invitation.withdrawnAt !== null || invitation.expiresAt <= now) throw refused()
  const seat = seatFor({ seats: licence?.seats ?? null, endsAt: licence?.endsAt ?? null }, taken[0]?.count ?? 0, now)
  if (!seat.ok) throw new Fault('no_seat', seat.reason === 'licence-expired' ? 'The licence has ended; nobody new can be enrolled.' : 'Every seat of the licence is taken; deregister an endpoint or issue a larger licence.')

  const uid = toHex(crypto.getRandomValues(new Uint8Array(16)))
  const issued = await issueCertificate({ authority: await activeAuthority(context), publicKeySpki: csr.publicKeySpki, purpose: 'agent', commonName: uid, now })
  const endpoint: EndpointRow = {
    uid, version: 1, registered: true, online: false, onFabric: false, quarantined: false, group: invitation.group, hostName: body.hostName, os: body.os, account: '',
    agentVersion: body.agentVersion, protocol: body.protocol, enrolledAt: now, lastReportAt: null, deregisteredAt: null, deregistration: null, sequence: 0, rulesRevision: 0,
    verdicts: '{}', tags: '[]', addresses: '{"ips":[],"macs":[]}', nextDue: null, publicIp: '',
    certificates: JSON.stringify([{ serial: issued.serial, purpose: 'agent', user: '', notAfter: issued.notAfter }]),
  }
  const spend = sql`EXISTS (SELECT 1 FROM invitation_spends WHERE invitation_id = ${invitation.id} AND key_hash = ${csr.publicKeyHash} AND uid = ${uid})`

  const [spending, , , , tail, concerned] = await db.batch([
    db.insert(invitationSpends).select(sql`SELECT id, ${csr.publicKeyHash}, ${uid}, ${now} FROM invitations
      WHERE id = ${invitation.id} AND withdrawn_at IS NULL AND expires_at > ${now} AND uses > (SELECT count(*) FROM invitation_spends WHERE invitation_id = ${invitation.id})
      AND COALESCE((SELECT seats FROM licences WHERE id = 1), 1e12) > (SELECT count(*) FROM endpoints WHERE registered = 1)`).onConflictDoNothing(),
    db.insert(endpoints).select(sql`SELECT ${uid}, 1, 1, 0, 0, 0, ${endpoint.group}, ${endpoint.hostName}, ${endpoint.os}, '', ${endpoint.agentVersion}, ${endpoint.protocol}, ${now}, NULL, NULL, NULL,
      0, 0, '{}', '[]', ${endpoint.certificates}, ${endpoint.addresses}, NULL, '' WHERE ${spend}`),
    db.insert(certificates).select(sql`SELECT ${issued.serial}, ${uid}, 'agent', '', ${csr.publicKeyHash}, ${issued.pem}, ${issued.notAfter}, 'current', ${now}, NULL WHERE ${spend}`),
    insertLog(db, { mark: newMark(), at: now, uid, tables: 'sysinfo', entry: JSON.stringify(entryOf(endpoint)) }, spend),
    logTail(db), gatewaysConcerned(db, uid),
  ])
  // Somebody else took the last use meanwhile; or this very key did, in a request whose reply was lost.
  if (spending.meta.changes === 0) return await again(context, await spentBy(context, invitation.id, csr.publicKeyHash), csr.publicKeyHash)
  await pokeGateways(context, concerned, tail, { [uid]: sysinfoRecord(endpoint, {}) })
  return { endpoint, certificate: issued.pem }
}

const spentBy = async ({ db }: Context, invitationId: string, keyHash: string) =>
  (await db.select().from(invitationSpends).where(and(eq(invitationSpends.invitationId, invitationId), eq(invitationSpends.keyHash, keyHash))))[0]

async function again(context: Context, spent: { uid: string; at: number } | undefined, keyHash: string): Promise<{ endpoint: EndpointRow; certificate: string }> {
  if (spent === undefined || context.now() - spent.at > SAME_KEY_WITHIN_MS) throw refused()
  const [row] = await context.db.select({ endpoint: endpoints, pem: certificates.pem, state: certificates.state }).from(endpoints).innerJoin(certificates, eq(certificates.uid, endpoints.uid))
    .where(and(eq(endpoints.uid, spent.uid), eq(certificates.keyHash, keyHash)))
  if (row === undefined || !row.endpoint.registered || row.state !== 'current') throw refused()
  // With the reply a poke may have been lost.
  const [tail, concerned] = await context.db.batch([logTail(context.db), gatewaysConcerned(context.db, spent.uid)])
  await pokeGateways(context, concerned, tail)
  return { endpoint: row.endpoint, certificate: row.pem }
}
