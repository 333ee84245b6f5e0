// A gateway as administrators see it: how it stands and why, and what its protocol keeps it from.
import { asc, gt } from 'drizzle-orm'
import { gatesFor } from '../../domain/version/gate.ts'
import { gateways, type GatewayRow } from '../../schema/gateway.ts'
import type { Context } from '../context.ts'
import { pendingUntil } from './gateways.ts'
import { readPlace } from './on-fabric.ts'

export async function describeGateway(context: Pick<Context, 'env'>, row: GatewayRow) {
  const { serial, name, state, reason, fingerprint, address, joinedAt, authorisedAt, isRoot, vouchedBy, vouchedUntil, certificateSerial, notAfter } = row
  const peer = state === 'authorised' ? await context.env.FCM_NOTIFY.getByName(serial).peer() : null
  return {
    serial, name, state, reason, fingerprint, address, joinedAt, authorisedAt, isRoot, vouchedBy, vouchedUntil, pendingUntil: pendingUntil(row),
    shareMode: row.shareMode as 0 | 1 | 2, shareTagTypes: JSON.parse(row.shareTagTypes) as number[], selectedSerials: JSON.parse(row.selectedSerials) as string[],
    certificate: certificateSerial === null || notAfter === null ? null : { serial: certificateSerial, notAfter },
    connected: peer?.connected ?? false, protocol: peer?.protocol ?? null, missing: peer === null || peer.protocol === null ? [] : gatesFor(peer.protocol).missing,
    fabric: readPlace(row.fabric),
  }
}
export type DescribedGateway = Awaited<ReturnType<typeof describeGateway>>

/** By serial, after a cursor; one object call for each that is authorised. */
export async function listGateways(context: Pick<Context, 'env' | 'db'>, { after, limit }: { after?: string | undefined; limit: number }): Promise<{ items: DescribedGateway[]; next: string | null }> {
  const rows = await context.db.select().from(gateways).where(after === undefined ? undefined : gt(gateways.serial, after)).orderBy(asc(gateways.serial)).limit(limit + 1)
  const shown = rows.slice(0, limit)
  return { items: await Promise.all(shown.map((row) => describeGateway(context, row))), next: rows.length > limit ? shown.at(-1)?.serial ?? null : null }
}
