// Which endpoints a gateway says it cares for, and who must hear that this changed.
import { and, eq, or, sql } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { gateways, gatewaySubscriptions } from '../../schema/gateway.ts'

/**
 * Writes subscriptions of one gateway; only of endpoints that there are.
 * @returns serials of the gateways whose sight this changes: itself, and those that follow its subscriptions
 */
export async function subscribe(db: DrizzleD1Database, serial: string, added: readonly string[], removed: readonly string[]): Promise<string[]> {
  const [, , rows] = await db.batch([
    db.insert(gatewaySubscriptions).select(sql`SELECT uid, ${serial} FROM endpoints WHERE uid IN (SELECT value FROM json_each(${JSON.stringify(added)}))`).onConflictDoNothing(),
    db.delete(gatewaySubscriptions).where(and(eq(gatewaySubscriptions.serial, serial), sql`${gatewaySubscriptions.uid} IN (SELECT value FROM json_each(${JSON.stringify(removed)}))`)),
    db.select({ serial: gateways.serial }).from(gateways).where(and(eq(gateways.state, 'authorised'), or(
      and(eq(gateways.serial, serial), eq(gateways.shareMode, 0)),
      and(eq(gateways.shareMode, 2), sql`EXISTS (SELECT 1 FROM json_each(${gateways.selectedSerials}) j WHERE j.value = ${serial})`),
    ))),
  ])
  return rows.map((row) => row.serial)
}
