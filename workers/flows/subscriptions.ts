// Which endpoints a gateway says it cares for, and who must hear that this changed.
import { and, eq, or, sql } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { endpoints } from '../../schema/endpoint.ts'
import { gateways, gatewaySubscriptions } from '../../schema/gateway.ts'

/**
 * Writes subscriptions of one gateway; only of endpoints that there are.
 * @param snapshot `added` is all it cares for: what it does not name is unsubscribed
 * @returns gateways whose sight this changes (itself, and those that follow its subscriptions), and which of `added` are registered
 */
export async function subscribe(db: DrizzleD1Database, serial: string, added: readonly string[], removed: readonly string[], snapshot = false): Promise<{ concerned: string[]; registered: Set<string> }> {
  const [come, gone] = [sql`(SELECT value FROM json_each(${JSON.stringify(added)}))`, sql`(SELECT value FROM json_each(${JSON.stringify(removed)}))`]
  const [, , rows, known] = await db.batch([
    db.insert(gatewaySubscriptions).select(sql`SELECT uid, ${serial} FROM endpoints WHERE uid IN ${come}`).onConflictDoNothing(),
    db.delete(gatewaySubscriptions).where(and(eq(gatewaySubscriptions.serial, serial), snapshot ? sql`${gatewaySubscriptions.uid} NOT IN ${come}` : sql`${gatewaySubscriptions.uid} IN ${gone}`)),
    db.select({ serial: gateways.serial }).from(gateways).where(and(eq(gateways.state, 'authorised'), or(
      and(eq(gateways.serial, serial), eq(gateways.shareMode, 0)),
      and(eq(gateways.shareMode, 2), sql`EXISTS (SELECT 1 FROM json_each(${gateways.selectedSerials}) j WHERE j.value = ${serial})`),
    ))),
    db.select({ uid: endpoints.uid }).from(endpoints).where(and(eq(endpoints.registered, true), sql`${endpoints.uid} IN ${come}`)),
  ])
  return { concerned: rows.map((row) => row.serial), registered: new Set(known.map(({ uid }) => uid)) }
}
