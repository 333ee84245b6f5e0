// Spending an invitation: one guarded batch that makes an endpoint, or nothing.
import { and, eq, sql } from 'drizzle-orm'
import { issueCertificate } from '../../identity/authority.ts'
import { toHex, type Bytes } from '../../identity/encoding.ts'
import { secretHash } from '../../identity/keys.ts'
import { seatFor } from '../../domain/licensing/seat.ts'
import { noTagChanges } from '../../domain/tagging/flapping.ts'
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
const taken = sql`SELECT count(*) FROM endpoints WHERE registered = 1`
const refused = () => new Fault('invitation_refused', 'The invitation is unknown, used up, expired or withdrawn; ask for a new one.')

const ATTEMPTS = 3

/** @returns the endpoint and the certificate; the same ones when the same key asks again within an hour. */
export async function enrolEndpoint(context: Context, body: Parsed<typeof enrol>['body']): Promise<{ endpoint: EndpointRow; certificate: string }> {
  const csr = await requireCsr(body.csr)
  const codeHash = await secretHash(body.invitation)
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const enrolled = await enrolOnce(context, body, csr, codeHash)
    if (enrolled !== null) return enrolled
  }
  throw new Fault('busy', 'Many enrol at once; try again.', { retryAfterSeconds: 1 })
}

/** null: the last use or the last seat was taken meanwhile, or this very key has enrolled in a request whose reply was lost. Asking anew tells which. */
async function enrolOnce(context: Context, body: Parsed<typeof enrol>['body'], csr: { publicKeySpki: Bytes; publicKeyHash: string }, codeHash: string): Promise<{ endpoint: EndpointRow; certificate: string } | null> {
  const { db } = context
  const now = context.now()
  const [found, [spent], [licence]] = await db.batch([
    db.select({ invitation: invitations, used: sql<number>`(SELECT count(*) FROM invitation_spends s WHERE s.invitation_id = ${invitations.id})` }).from(invitations).where(eq(invitations.codeHash, codeHash)),
    db.select({ at: invitationSpends.at, uid: invitationSpends.uid }).from(invitationSpends).innerJoin(invitations, eq(invitations.id, invitationSpends.invitationId))
      .where(and(eq(invitations.codeHash, codeHash), eq(invitationSpends.keyHash, csr.publicKeyHash))),
    // Seats are counted only where they are limited: the count reads every endpoint.
    db.select({ seats: licences.seats, endsAt: licences.endsAt, taken: sql<number>`CASE WHEN ${licences.seats} IS NULL THEN 0 ELSE (${taken}) END` }).from(licences),
  ])
  const [row] = found
  if (row === undefined) throw refused()
  const { invitation, used } = row
  if (spent !== undefined) return await again(context, spent, csr.publicKeyHash)
  if (invitation.withdrawnAt !== null || invitation.expiresAt <= now || used >= invitation.uses) throw refused()
  const seat = seatFor({ seats: licence?.seats ?? null, endsAt: licence?.endsAt ?? null }, licence?.taken ?? 0, now)
  if (!seat.ok) throw new Fault('no_seat', seat.reason === 'licence-expired' ? 'The licence has ended; nobody new can be enrolled.' : 'Every seat of the licence is taken; deregister an endpoint or issue a larger licence.')

  const uid = toHex(crypto.getRandomValues(new Uint8Array(16)))
  const issued = await issueCertificate({ authority: await activeAuthority(context), publicKeySpki: csr.publicKeySpki, purpose: 'agent', commonName: uid, now })
  const endpoint: EndpointRow = {
    uid, version: 1, registered: true, online: false, onFabric: false, quarantined: false, group: invitation.group, hostName: body.hostName, os: body.os, account: '',
    agentVersion: body.agentVersion, protocol: body.protocol, enrolledAt: now, lastReportAt: null, deregisteredAt: null, deregistration: null, sequence: 0, rulesRevision: 0,
    verdicts: '{}', tags: '[]', addresses: '{"ips":[],"macs":[]}', nextDue: null, publicIp: '', assigned: '[]', tagChanges: noTagChanges, ownership: invitation.ownership, fabricBy: null, fabricUntil: null, profileMovedAt: null, identityBy: null, identityUntil: null,
    certificates: JSON.stringify([{ serial: issued.serial, purpose: 'agent', user: '', notAfter: issued.notAfter }]),
  }
  const spend = sql`EXISTS (SELECT 1 FROM invitation_spends WHERE invitation_id = ${invitation.id} AND key_hash = ${csr.publicKeyHash} AND uid = ${uid})`

  const [spending, , , , tail, concerned] = await db.batch([
    db.insert(invitationSpends).select(sql`SELECT id, ${csr.publicKeyHash}, ${uid}, ${now} FROM invitations
      WHERE id = ${invitation.id} AND withdrawn_at IS NULL AND expires_at > ${now} AND uses > (SELECT count(*) FROM invitation_spends WHERE invitation_id = ${invitation.id})
      AND COALESCE((SELECT ends_at FROM licences WHERE id = 1), ${now} + 1) > ${now}
      AND ((SELECT seats FROM licences WHERE id = 1) IS NULL OR (SELECT seats FROM licences WHERE id = 1) > (${taken}))`).onConflictDoNothing(),
    db.insert(endpoints).select(sql`SELECT ${uid}, 1, 1, 0, 0, 0, ${endpoint.group}, ${endpoint.hostName}, ${endpoint.os}, '', ${endpoint.agentVersion}, ${endpoint.protocol}, ${now}, NULL, NULL, NULL,
      0, 0, '{}', '[]', ${endpoint.certificates}, ${endpoint.addresses}, NULL, '', '[]', ${noTagChanges}, ${endpoint.ownership}, NULL, NULL, NULL, NULL, NULL WHERE ${spend}`),
    db.insert(certificates).select(sql`SELECT ${issued.serial}, ${uid}, 'agent', '', ${csr.publicKeyHash}, ${issued.pem}, ${issued.notAfter}, 'current', ${now}, NULL WHERE ${spend}`),
    insertLog(db, { mark: newMark(), at: now, uid, tables: 'sysinfo', entry: JSON.stringify(entryOf(endpoint)) }, spend),
    logTail(db), gatewaysConcerned(db, uid),
  ])
  if (spending.meta.changes === 0) return null
  await pokeGateways(context, concerned, tail, { [uid]: sysinfoRecord(endpoint, {}) })
  return { endpoint, certificate: issued.pem }
}

/** The same key asking again: its reply was lost, and it gets what it got. */
async function again(context: Context, spent: { uid: string; at: number }, keyHash: string): Promise<{ endpoint: EndpointRow; certificate: string }> {
  if (context.now() - spent.at > SAME_KEY_WITHIN_MS) throw refused()
  const [row] = await context.db.select({ endpoint: endpoints, pem: certificates.pem }).from(endpoints).innerJoin(certificates, eq(certificates.uid, endpoints.uid))
    .where(and(eq(endpoints.uid, spent.uid), eq(certificates.keyHash, keyHash), eq(certificates.purpose, 'agent'), eq(certificates.state, 'current')))
  if (row === undefined || !row.endpoint.registered) throw refused()
  // With the reply a poke may have been lost.
  const [tail, concerned] = await context.db.batch([logTail(context.db), gatewaysConcerned(context.db, spent.uid)])
  await pokeGateways(context, concerned, tail)
  return { endpoint: row.endpoint, certificate: row.pem }
}
