// Which endpoints a gateway says it cares for, and who must hear that this changed.
import { and, eq, or, sql } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { endpoints } from '../../schema/endpoint.ts'
import { gateways, gatewaySubscriptions } from '../../schema/gateway.ts'

export interface Subscriptions {
  readonly added: readonly string[]
  readonly removed: readonly string[]
  /** `added` is all they care for: what it does not name is unsubscribed. */
  readonly isSnapshot: boolean
}

/**
 * Writes subscriptions of gateways; only of endpoints that there are.
 * @returns gateways whose sight this changes (those themselves, and those that follow their subscriptions), and which of `added` are registered
 */
export async function subscribe(db: DrizzleD1Database, serials: readonly string[], { added, removed, isSnapshot }: Subscriptions): Promise<{ concerned: string[]; registered: Set<string> }> {
  const [come, gone, whose] = [added, removed, serials].map((list) => sql`(SELECT value FROM json_each(${JSON.stringify(list)}))`)
  const [, , rows, known] = await db.batch([
    db.insert(gatewaySubscriptions).select(sql`SELECT e.uid, s.value FROM endpoints e, json_each(${JSON.stringify(serials)}) s WHERE e.uid IN ${come}`).onConflictDoNothing(),
    db.delete(gatewaySubscriptions).where(and(sql`${gatewaySubscriptions.serial} IN ${whose}`, isSnapshot ? sql`${gatewaySubscriptions.uid} NOT IN ${come}` : sql`${gatewaySubscriptions.uid} IN ${gone}`)),
    db.select({ serial: gateways.serial }).from(gateways).where(and(eq(gateways.state, 'authorised'), or(
      and(sql`${gateways.serial} IN ${whose}`, eq(gateways.shareMode, 0)),
      and(eq(gateways.shareMode, 2), sql`EXISTS (SELECT 1 FROM json_each(${gateways.selectedSerials}) j WHERE j.value IN ${whose})`),
    ))),
    db.select({ uid: endpoints.uid }).from(endpoints).where(and(eq(endpoints.registered, true), sql`${endpoints.uid} IN ${come}`)),
  ])
  return { concerned: rows.map((row) => row.serial), registered: new Set(known.map(({ uid }) => uid)) }
}
