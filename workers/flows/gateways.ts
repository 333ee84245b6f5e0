// Gateways in the records: asking to join, authorised by an administrator, a code or a root, cut off, renewed.
import { and, asc, eq, gt, inArray, isNull, lt, or, sql } from 'drizzle-orm'
import { issueCertificate, type IssuedCertificate } from '../../identity/authority.ts'
import { toHex } from '../../identity/encoding.ts'
import { keyFingerprint, secretHash } from '../../identity/keys.ts'
import { Fault } from '../../protocol/faults.ts'
import { JOIN_CODE_PREFIX, readInvitation } from '../../protocol/invitation.ts'
import type { joinInit } from '../../protocol/operations/fabric.ts'
import type { Parsed } from '../../protocol/operation.ts'
import { gateways, gatewaySubscriptions, type GatewayRow } from '../../schema/gateway.ts'
import { joinCodes } from '../../schema/invitation.ts'
import type { Context } from '../context.ts'
import { activeAuthority } from './authority.ts'
import { requireCsr } from './certificates.ts'

const PENDING_FOR_MS = 24 * 3_600_000
const MAX_PENDING = 100
/** One address must not fill the list that an administrator reads. */
const MAX_PENDING_BY_ADDRESS = 10
const PENDING_REASON = 'An administrator has not authorised this gateway yet.'
const AUTHORISED_REASON = 'Authorised.'

const objectOf = ({ env }: Pick<Context, 'env'>, serial: string) => env.FCM_NOTIFY.getByName(serial)
export async function findGateway({ db }: Pick<Context, 'db'>, serial: string): Promise<GatewayRow> {
  const [row] = await db.select().from(gateways).where(eq(gateways.serial, serial))
  if (row === undefined) throw new Fault('not_found', 'There is no such gateway.')
  return row
}

/** A gateway as administrators see it. */
export async function describeGateway(context: Pick<Context, 'env'>, row: GatewayRow) {
  const { serial, name, state, reason, fingerprint, address, joinedAt, authorisedAt } = row
  return {
    serial, name, state, reason, fingerprint, address, joinedAt, authorisedAt, shareMode: row.shareMode as 0 | 1 | 2, shareTagTypes: JSON.parse(row.shareTagTypes) as number[],
    connected: state === 'authorised' && await objectOf(context, serial).connected(),
  }
}
export type DescribedGateway = Awaited<ReturnType<typeof describeGateway>>
/** By serial, after a cursor; one object call for each that is authorised. */
export async function listGateways(context: Pick<Context, 'env' | 'db'>, { after, limit }: { after?: string | undefined; limit: number }): Promise<{ items: DescribedGateway[]; next: string | null }> {
  const rows = await context.db.select().from(gateways).where(after === undefined ? undefined : gt(gateways.serial, after)).orderBy(asc(gateways.serial)).limit(limit + 1)
  const shown = rows.slice(0, limit)
  return { items: await Promise.all(shown.map((row) => describeGateway(context, row))), next: rows.length > limit ? shown.at(-1)?.serial ?? null : null }
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
  const address = context.request.headers.get('cf-connecting-ip') ?? body.management_ip ?? ''
  const serial = `SPGW${toHex(crypto.getRandomValues(new Uint8Array(6))).toUpperCase()}`
  const row: typeof gateways.$inferInsert = { serial, name: body.serial_number, state: 'pending', reason: PENDING_REASON, keyHash: csr.publicKeyHash, fingerprint, csr: body.csr, address, joinedAt: now }
  const [, , , found] = await db.batch([
    db.delete(gateways).where(and(eq(gateways.state, 'pending'), lt(gateways.joinedAt, now - PENDING_FOR_MS))),
    db.insert(gateways).select(sql`SELECT ${serial}, ${row.name}, 'pending', ${row.reason}, ${row.keyHash}, ${fingerprint}, ${body.csr}, ${address}, NULL, NULL, NULL, NULL, 0, NULL, 1, '[]', '[1,2,3,4]', ${now}, NULL
      WHERE ${usableCode(codeHash, now)} OR ((SELECT count(*) FROM gateways WHERE state = 'pending') < ${MAX_PENDING} AND (${address} = '' OR (SELECT count(*) FROM gateways WHERE state = 'pending' AND address = ${address}) < ${MAX_PENDING_BY_ADDRESS}))`)
      .onConflictDoNothing(),
    // A code is spent by the key that shows it, once; the same key showing it again after a lost reply has spent it already.
    db.update(joinCodes).set({ spentBy: sql`(SELECT serial FROM gateways WHERE key_hash = ${row.keyHash} AND state = 'pending')` })
      .where(sql`code_hash = ${codeHash} AND spent_by IS NULL AND expires_at > ${now} AND EXISTS (SELECT 1 FROM gateways WHERE key_hash = ${row.keyHash} AND state = 'pending')`),
    db.select({ gateway: gateways, code: joinCodes.id }).from(gateways).leftJoin(joinCodes, and(eq(joinCodes.spentBy, gateways.serial), sql`${joinCodes.codeHash} = ${codeHash}`)).where(eq(gateways.keyHash, row.keyHash)),
  ])
  const [mine] = found
  if (mine === undefined) throw new Fault('too_many', 'Too many gateways wait to be authorised; ask an administrator to look, or come again later.', { retryAfterSeconds: 60 })
  if (mine.gateway.state !== 'pending') return mine.gateway
  if (mine.code !== null) return await authorise(context, mine.gateway, {})
  if (codeHash !== null) throw new Fault('invitation_refused', 'The join code is unknown, used up or expired; ask for a new one.')
  return mine.gateway
}
const usableCode = (codeHash: string | null, now: number) => sql`EXISTS (SELECT 1 FROM join_codes WHERE code_hash = ${codeHash} AND spent_by IS NULL AND expires_at > ${now})`

/** @param fingerprint as the administrator compared it; another one is refused: then another key asks under that name */
export async function authoriseGateway(context: Context, serial: string, fingerprint: string): Promise<DescribedGateway> {
  const row = await findGateway(context, serial)
  if (fingerprint.trim().toUpperCase() !== row.fingerprint) throw new Fault('conflict', 'That is not the fingerprint of the key that asks. Compare it on the gateway itself.')
  return await describeGateway(context, await authorise(context, row, {}))
}

/** Issues the certificate and lets the gateway in; one that is in stays as it is. */
export async function authorise(context: Context, row: GatewayRow, entitlement: Partial<GatewayRow>): Promise<GatewayRow> {
  if (row.state === 'authorised') return row
  const issued = await certifyGateway(context, row.serial, row.csr)
  const set = { ...entitlement, state: 'authorised' as const, reason: AUTHORISED_REASON, authorisedAt: context.now(), certificateSerial: issued.serial, previousSerial: null, certificatePem: issued.pem, notAfter: issued.notAfter }
  // Two at once: one certificate is the gateway's, and both read that one back.
  await context.db.update(gateways).set(set).where(and(eq(gateways.serial, row.serial), sql`${gateways.state} <> 'authorised'`))
  await objectOf(context, row.serial).configure(row.serial)
  return await findGateway(context, row.serial)
}
async function certifyGateway(context: Context, serial: string, csrText: string): Promise<IssuedCertificate> {
  const csr = await requireCsr(csrText)
  return await issueCertificate({ authority: await activeAuthority(context), publicKeySpki: csr.publicKeySpki, purpose: 'gateway', commonName: serial, now: context.now() })
}

/** Cuts a gateway off: its certificate is void from this write on, its sockets close, its object forgets. Idempotent. */
export async function deauthoriseGateway(context: Context, serial: string, reason: string): Promise<DescribedGateway> {
  const row = await findGateway(context, serial)
  const said = reason === '' ? 'An administrator has de-authorised this gateway.' : reason
  await context.db.batch([
    context.db.update(gateways).set({ state: 'denied', reason: said, certificateSerial: null, previousSerial: null, certificatePem: null, notAfter: null }).where(eq(gateways.serial, serial)),
    context.db.delete(gatewaySubscriptions).where(eq(gatewaySubscriptions.serial, serial)),
  ])
  await objectOf(context, serial).end(serial, 'deauthorised', said)
  return await describeGateway(context, { ...row, state: 'denied', reason: said })
}

/** A new certificate for the same serial; both are good until the new one is first used. The same key asking again gets the same. */
export async function renewGatewayCertificate(context: Context, row: GatewayRow, usedSerial: string, csrText: string): Promise<string> {
  const csr = await requireCsr(csrText)
  if (row.keyHash === csr.publicKeyHash && row.certificateSerial !== usedSerial && row.certificatePem !== null) return row.certificatePem
  const issued = await certifyGateway(context, row.serial, csrText)
  const { meta } = await context.db.update(gateways)
    .set({ csr: csrText, keyHash: csr.publicKeyHash, fingerprint: await keyFingerprint(csr.publicKeySpki), certificateSerial: issued.serial, previousSerial: usedSerial, certificatePem: issued.pem, notAfter: issued.notAfter })
    .where(and(eq(gateways.serial, row.serial), eq(gateways.state, 'authorised'), row.certificateSerial === null ? isNull(gateways.certificateSerial) : eq(gateways.certificateSerial, row.certificateSerial)))
  if (meta.changes === 0) throw new Fault('conflict', 'The gateway was changed meanwhile; ask again.')
  return issued.pem
}
/** The first use of a renewed certificate ends the one before it. */
export async function retirePrevious(context: Context, row: GatewayRow, usedSerial: string): Promise<void> {
  if (row.previousSerial === null || row.certificateSerial !== usedSerial) return
  await context.db.update(gateways).set({ previousSerial: null }).where(and(eq(gateways.serial, row.serial), eq(gateways.certificateSerial, usedSerial)))
}

/** What a gateway is entitled to; its object loads anew what it may see now. */
export async function entitle(context: Context, serial: string, set: Partial<Pick<GatewayRow, 'shareMode' | 'selectedSerials' | 'shareTagTypes' | 'name' | 'isRoot'>>): Promise<void> {
  const row = await findGateway(context, serial)
  if (Object.keys(set).length > 0) await context.db.update(gateways).set(set).where(eq(gateways.serial, serial))
  if (row.state === 'authorised') await objectOf(context, serial).configure(serial)
}

/** A root gateway vouches for pending members, or takes it back for those it vouched for; they get at most its own entitlement. */
export async function vouch(context: Context, root: GatewayRow, verdicts: Readonly<Record<string, 'accept' | 'deny'>>): Promise<{ authorized: string[]; deauthorized: string[] }> {
  if (!root.isRoot) throw new Fault('forbidden', 'Only a root gateway may vouch for others.')
  const rows = await context.db.select().from(gateways).where(and(inArray(gateways.serial, Object.keys(verdicts)), or(eq(gateways.state, 'pending'), eq(gateways.vouchedBy, root.serial))))
  const done = { authorized: [] as string[], deauthorized: [] as string[] }
  for (const row of rows) {
    if (verdicts[row.serial] === 'deny') {
      await deauthoriseGateway(context, row.serial, 'The root gateway does not vouch for it.')
      done.deauthorized.push(row.serial)
    } else if (row.state !== 'denied') {
      await authorise(context, row, { vouchedBy: root.serial, shareMode: root.shareMode, selectedSerials: root.shareMode === 0 ? '[]' : root.selectedSerials, shareTagTypes: root.shareTagTypes })
      done.authorized.push(row.serial)
    }
  }
  return done
}
