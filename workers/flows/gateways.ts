// Gateways in the records: asking to join, authorised by an administrator, a code or a root, cut off, renewed.
import { and, eq, isNull, lt, ne, sql } from 'drizzle-orm'
import { issueCertificate, type IssuedCertificate } from '../../identity/authority.ts'
import { toHex } from '../../identity/encoding.ts'
import { keyFingerprint, secretHash } from '../../identity/keys.ts'
import { Fault } from '../../protocol/faults.ts'
import { JOIN_CODE_PREFIX, readInvitation } from '../../protocol/invitation.ts'
import type { joinInit } from '../../protocol/operations/fabric.ts'
import type { Parsed } from '../../protocol/operation.ts'
import { gatewayRevocations, gateways, gatewaySubscriptions, sightings, type GatewayRow } from '../../schema/gateway.ts'
import { joinCodes } from '../../schema/invitation.ts'
import { sourceOf, type Context } from '../context.ts'
import { sendAuthoritiesToAgents } from './announce.ts'
import { activeAuthority } from './authority.ts'
import { requireCsr } from './certificates.ts'
import { endPlace } from './on-fabric.ts'
import { forgetSights } from './sights.ts'
import { bumpState, states } from './states.ts'

const PENDING_FOR_MS = 24 * 3_600_000
const MAX_PENDING = 100
/** One address must not fill the list that an administrator reads. */
const MAX_PENDING_BY_ADDRESS = 10
const PENDING_REASON = 'It waits for an administrator to compare its fingerprint and authorise it, or for a root gateway to vouch for it.'
const CODE_REFUSED = 'Its join code is unknown, used up or expired. A new one lets it in, or an administrator who compares its fingerprint.'
const AUTHORISED_REASON = 'Authorised.'
/** How long one that waits may hold the line: shorter than its own patience. */
export const HOLDS_FOR_MS = 10_000
/** Until when (ms) one that waits may wait. */
export const pendingUntil = ({ state, joinedAt }: Pick<GatewayRow, 'state' | 'joinedAt'>): number | null => (state === 'pending' ? joinedAt + PENDING_FOR_MS : null)

const objectOf = ({ env }: Pick<Context, 'env'>, serial: string) => env.FCM_NOTIFY.getByName(serial)
export async function findGateway({ db }: Pick<Context, 'db'>, serial: string): Promise<GatewayRow> {
  const [row] = await db.select().from(gateways).where(eq(gateways.serial, serial))
  if (row === undefined) throw new Fault('not_found', 'There is no such gateway.')
  return row
}

/**
 * A key asks to join. The serial is the EMS's; a gateway is its key, and the same key asking again is told how it stands.
 * @param csrKeyHash proved by the request's own signature
 */
export async function joinGateway(context: Context, body: Parsed<typeof joinInit>['body'], csrKeyHash: string): Promise<GatewayRow> {
  const csr = await requireCsr(body.csr)
  if (csr.publicKeyHash !== csrKeyHash) throw new Fault('bad_signature', 'The request must be signed with the key of its certificate request.')
  const { db } = context
  const now = context.now()
  const codeHash = body.join_code === undefined ? null : await secretHash(readInvitation(JOIN_CODE_PREFIX, body.join_code)?.code ?? body.join_code)
  const fingerprint = await keyFingerprint(csr.publicKeySpki)
  const address = sourceOf(context.request) ?? body.management_ip ?? ''
  const serial = `SPGW${toHex(crypto.getRandomValues(new Uint8Array(6))).toUpperCase()}`
  const row: typeof gateways.$inferInsert = { serial, name: body.serial_number, state: 'pending', reason: codeHash === null ? PENDING_REASON : CODE_REFUSED, keyHash: csr.publicKeyHash, fingerprint, csr: body.csr, address, joinedAt: now }
  const [, , , , found] = await db.batch([
    db.delete(gateways).where(and(eq(gateways.state, 'pending'), lt(gateways.joinedAt, now - PENDING_FOR_MS))),
    db.insert(gateways).select(sql`SELECT ${serial}, ${row.name}, 'pending', ${row.reason}, ${row.keyHash}, ${fingerprint}, ${body.csr}, ${address}, NULL, NULL, NULL, NULL, 0, NULL, 1, '[]', '[1,2,3,4]', ${now}, NULL, NULL, NULL, NULL, NULL
      WHERE ${usableCode(codeHash, now)} OR ((SELECT count(*) FROM gateways WHERE state = 'pending') < ${MAX_PENDING} AND (${address} = '' OR (SELECT count(*) FROM gateways WHERE state = 'pending' AND address = ${address}) < ${MAX_PENDING_BY_ADDRESS}))`)
      .onConflictDoNothing(),
    // Whoever looks reads why it waits now, not why it did the first time.
    db.update(gateways).set({ reason: row.reason }).where(and(eq(gateways.keyHash, row.keyHash), eq(gateways.state, 'pending'), ne(gateways.reason, row.reason))),
    // A code is spent by the key that shows it, once; the same key showing it again after a lost reply has spent it already.
    db.update(joinCodes).set({ spentBy: sql`(SELECT serial FROM gateways WHERE key_hash = ${row.keyHash} AND state = 'pending')` })
      .where(sql`code_hash = ${codeHash} AND spent_by IS NULL AND expires_at > ${now} AND EXISTS (SELECT 1 FROM gateways WHERE key_hash = ${row.keyHash} AND state = 'pending')`),
    db.select({ gateway: gateways, code: joinCodes.id }).from(gateways).leftJoin(joinCodes, and(eq(joinCodes.spentBy, gateways.serial), sql`${joinCodes.codeHash} = ${codeHash}`)).where(eq(gateways.keyHash, row.keyHash)),
  ])
  const [mine] = found
  if (mine === undefined) throw new Fault('too_many', 'Too many gateways wait to be authorised; ask an administrator to look, or come again later.', { retryAfterSeconds: 60 })
  if (mine.gateway.state !== 'pending') return mine.gateway
  if (mine.code !== null) return await authorise(context, mine.gateway, BY_ITSELF)
  if (codeHash !== null) throw new Fault('invitation_refused', 'The join code is unknown, used up or expired; ask for a new one.')
  return mine.gateway
}
const usableCode = (codeHash: string | null, now: number) => sql`EXISTS (SELECT 1 FROM join_codes WHERE code_hash = ${codeHash} AND spent_by IS NULL AND expires_at > ${now})`

/**
 * Holds the line of a gateway that waits until somebody decides, so that it learns of it at once.
 * @param waitMs at most; cut to {@link HOLDS_FOR_MS}
 */
export async function awaitDecision(context: Context, row: GatewayRow, waitMs: number): Promise<GatewayRow> {
  if (row.state !== 'pending' || waitMs <= 0) return row
  await objectOf(context, row.serial).awaitDecision(Math.min(waitMs, HOLDS_FOR_MS))
  // Decided or not: the records say how it stands. One that has waited too long is gone from them.
  return (await context.db.select().from(gateways).where(eq(gateways.serial, row.serial)))[0] ?? row
}

/** @param fingerprint as the administrator compared it; another one is refused: then another key asks under that name */
export async function authoriseGateway(context: Context, serial: string, fingerprint: string): Promise<GatewayRow> {
  const row = await findGateway(context, serial)
  if (fingerprint.trim().toUpperCase() !== row.fingerprint) throw new Fault('conflict', 'That is not the fingerprint of the key that asks. Compare it on the gateway itself.')
  return await authorise(context, row, BY_ITSELF)
}
/** Let in by an administrator or a code, on nobody's word. */
export const BY_ITSELF = { vouchedBy: null, vouchedUntil: null } as const

export type Entitlement = Pick<GatewayRow, 'shareMode' | 'selectedSerials' | 'shareTagTypes'>
/** Sight and word with which a gateway is let in. */
export type Admission = Partial<Entitlement> & Pick<GatewayRow, 'vouchedBy' | 'vouchedUntil'>
export const changesSight = (row: Entitlement, set: Partial<Entitlement>): boolean =>
  (['shareMode', 'selectedSerials', 'shareTagTypes'] as const).some((name) => set[name] !== undefined && set[name] !== row[name])

/** Issues the certificate and lets the gateway in; one that is in keeps its certificate, and loads anew only when it may see something else. */
export async function authorise(context: Context, row: GatewayRow, admission: Admission): Promise<GatewayRow> {
  const object = objectOf(context, row.serial)
  if (row.state === 'authorised') {
    await context.db.update(gateways).set(admission).where(and(eq(gateways.serial, row.serial), eq(gateways.state, 'authorised')))
    if (changesSight(row, admission)) await object.configure(row.serial)
    else await object.vouchedUntil(admission.vouchedUntil)
    return await findGateway(context, row.serial)
  }
  const issued = await certifyGateway(context, row.serial, row.csr)
  const set = { ...admission, state: 'authorised' as const, reason: AUTHORISED_REASON, authorisedAt: context.now(), certificateSerial: issued.serial, previousSerial: null, certificatePem: issued.pem, notAfter: issued.notAfter }
  // Two at once: one certificate is the gateway's, and both read that one back.
  await context.db.update(gateways).set(set).where(and(eq(gateways.serial, row.serial), sql`${gateways.state} <> 'authorised'`))
  await object.configure(row.serial)
  return await findGateway(context, row.serial)
}
async function certifyGateway(context: Context, serial: string, csrText: string): Promise<IssuedCertificate> {
  const csr = await requireCsr(csrText)
  return await issueCertificate({ authority: await activeAuthority(context), publicKeySpki: csr.publicKeySpki, purpose: 'gateway', commonName: serial, now: context.now() })
}

/**
 * Cuts a gateway off: its certificate is void from this write on, its sockets close, its object forgets, what it saw is nobody's,
 * and agents are told to go through it no more. Members that it vouched for go with it. Idempotent.
 */
export async function deauthoriseGateway(context: Context, serial: string, reason: string): Promise<GatewayRow> {
  const { authorisedAt } = await findGateway(context, serial)
  try {
    return await cutOff(context, serial, reason)
  } finally {
    // Whether or not all of the rest was done: what is void for the EMS must not be good for agents.
    if (authorisedAt !== null) sendAuthoritiesToAgents(context)
  }
}

async function cutOff(context: Context, serial: string, reason: string): Promise<GatewayRow> {
  const said = reason === '' ? 'An administrator has de-authorised this gateway.' : reason
  const { db } = context
  const now = context.now()
  const [, , , , , members, seeing] = await db.batch([
    bumpState(context, states.authorities, now, sql`EXISTS (SELECT 1 FROM gateways WHERE serial = ${serial} AND certificate_serial IS NOT NULL)`),
    // Read where it is written: one that was issued a moment ago is among them.
    db.insert(gatewayRevocations).select(sql`SELECT value, not_after, ${now}, 'revoked', ${serial} FROM gateways, json_each(json_array(certificate_serial, previous_serial)) WHERE serial = ${serial} AND value IS NOT NULL`).onConflictDoNothing(),
    db.update(gatewayRevocations).set({ cause: 'revoked', at: now }).where(and(eq(gatewayRevocations.gateway, serial), eq(gatewayRevocations.cause, 'superseded'))),
    db.update(gateways).set({ state: 'denied', reason: said, certificateSerial: null, previousSerial: null, certificatePem: null, notAfter: null, vouchedUntil: null, neighboursAt: null, connectionsAt: null }).where(eq(gateways.serial, serial)),
    db.delete(gatewaySubscriptions).where(eq(gatewaySubscriptions.serial, serial)),
    db.select({ serial: gateways.serial }).from(gateways).where(and(eq(gateways.vouchedBy, serial), ne(gateways.state, 'denied'), ne(gateways.serial, serial))),
    db.select({ serial: sightings.serial }).from(sightings).where(eq(sightings.serial, serial)).limit(1),
  ])
  await objectOf(context, serial).end(serial, 'deauthorised', said)
  if (seeing.length > 0) await forgetSights(context, serial)
  for (const member of members) await cutOff(context, member.serial, `Gateway ${serial}, which vouched for it, is no longer authorised.`)
  await endPlace(context, serial)
  return await findGateway(context, serial)
}

/** A new certificate for the same serial; both are good until the new one is first used. The same key asking again gets the same. */
export async function renewGatewayCertificate(context: Context, row: GatewayRow, usedSerial: string, csrText: string): Promise<string> {
  const csr = await requireCsr(csrText)
  if (row.keyHash === csr.publicKeyHash && row.certificateSerial !== usedSerial && row.certificatePem !== null) return row.certificatePem
  const issued = await certifyGateway(context, row.serial, csrText)
  const { meta } = await context.db.update(gateways)
    .set({ csr: csrText, keyHash: csr.publicKeyHash, fingerprint: await keyFingerprint(csr.publicKeySpki), certificateSerial: issued.serial, previousSerial: usedSerial, certificatePem: issued.pem, notAfter: issued.notAfter })
    .where(and(eq(gateways.serial, row.serial), eq(gateways.state, 'authorised'), row.certificateSerial === null ? isNull(gateways.certificateSerial) : eq(gateways.certificateSerial, row.certificateSerial),
      // A gateway is its key: one key, one gateway.
      sql`NOT EXISTS (SELECT 1 FROM gateways o WHERE o.key_hash = ${csr.publicKeyHash} AND o.serial <> ${row.serial})`))
  // One that was issued before and never used is nobody's now.
  if (meta.changes > 0 && row.certificateSerial !== null && row.certificateSerial !== usedSerial) await supersede(context, row, row.certificateSerial)
  if (meta.changes === 0) throw new Fault('conflict', 'The gateway was changed meanwhile, or that key is another gateway\'s; ask again with a key of its own.')
  return issued.pem
}
/** The first use of a renewed certificate ends the one before it. */
export async function retirePrevious(context: Context, row: GatewayRow, usedSerial: string): Promise<void> {
  if (row.previousSerial === null || row.certificateSerial !== usedSerial) return
  // The one before stands on the published list until it ends. Agents are told only of gateways that were cut off.
  await context.db.batch([
    supersede(context, row, row.previousSerial),
    context.db.update(gateways).set({ previousSerial: null }).where(and(eq(gateways.serial, row.serial), eq(gateways.certificateSerial, usedSerial))),
  ])
}
/** Until the end of the gateway's newest certificate, which is no earlier than its own. */
const supersede = ({ db, now }: Context, { serial, notAfter }: GatewayRow, certificateSerial: string) =>
  db.insert(gatewayRevocations).values({ certificateSerial, notAfter: notAfter ?? now(), at: now(), cause: 'superseded', gateway: serial }).onConflictDoNothing()
