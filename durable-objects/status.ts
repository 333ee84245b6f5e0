// What has changed, table by table, after the watermarks that a gateway holds.
import { tableName, type TableName } from '../protocol/fabric/tables.ts'
import { logMarks } from '../schema/queries/follow-log.ts'
import type { Follower } from './follower.ts'
import { isEndpointTable } from './follower-store.ts'
import { readWatermark } from './log-entry.ts'
import { continues } from './page-place.ts'
import { wholeChangedAt } from './whole-page.ts'

/** `foreign`: that watermark can't be continued. */
export interface TableState { readonly table: TableName; readonly state: 'same' | 'changed' | 'foreign'; readonly revision: number; readonly at: number }

/**
 * Call inside the follower's lane, after it has caught up: one read of D1 at most. Tables that `since` does not name are left out.
 * @param hostTags what that name stands for: the tags themselves (socket), or the older report by tag, which is derived from all endpoints
 */
export async function changedSince(follower: Follower, since: Readonly<Partial<Record<string, string>>>, hostTags: 'names' | 'report' = 'names'): Promise<TableState[]> {
  const { cursor, settings } = follower
  if (cursor === null || settings === null) return []
  const held = tableName.options.flatMap((table) => (since[table] === undefined ? [] : [{ table, watermark: readWatermark(since[table]) }]))
  const asked = [...new Set(held.flatMap(({ watermark }) => (watermark === null || watermark.revision === cursor.revision ? [] : [watermark.revision])))]
  const marks = new Map(asked.length === 0 ? [] : (await logMarks(follower.db, asked)).map(({ revision, mark }) => [revision, mark]))
  follower.fold()
  return held.map(({ table, watermark }) => {
    const last = isEndpointTable(table) ? follower.store.lastChange(table) : { revision: 0, at: 0 }
    const revision = table === 'tags' || (table === 'host_tags' && hostTags === 'report') ? wholeChangedAt(follower, table) : table === 'host_tags' ? follower.store.tagsChangedAt() : last.revision
    const goesOn = continues(watermark, { cursor, floor: settings.floor }, watermark === null ? null : marks.get(watermark.revision) ?? null)
    return { table, state: !goesOn || watermark === null ? 'foreign' : revision > watermark.revision ? 'changed' : 'same', revision, at: last.at }
  })
}
