// The answer to a gateway's hello: exactly what it misses, table by table, or that it must load anew.
import type { ToGateway } from '../protocol/fabric/notify.ts'
import { tableName, type TableName } from '../protocol/fabric/tables.ts'
import type { Follower } from './follower.ts'
import { readWatermark, watermarkOf } from './log-entry.ts'
import { MAX_INCREMENT_BYTES, tells, uidTagsOf } from './notices.ts'
import { changedSince } from './status.ts'

/** Endpoints in an increment that rides in the greeting; more are pulled. */
const MAX_GREETED = 100

/** @param have watermarks by table; a table that is not named is held as nothing */
export async function greet(follower: Follower, have: Readonly<Partial<Record<TableName, string>>>, protocol: string): Promise<ToGateway[]> {
  const tables = tableName.options.filter((table) => tells(table, protocol))
  const states = await changedSince(follower, Object.fromEntries(tables.map((table) => [table, have[table] ?? ''])))
  const { cursor } = follower
  if (cursor === null) return []
  return states.flatMap(({ table, state, at }): ToGateway[] => {
    if (state === 'same') return []
    if (state === 'foreign') return [{ type: 'reload', table }]
    const after = have[table] ?? ''
    const data = table === 'uid_tags' ? tagsSince(follower, after) : null
    return [{ type: 'changed', table, after, updated_after: watermarkOf(cursor), at, ...(data === null ? {} : { data }) }]
  })
}

function tagsSince(follower: Follower, after: string): object | null {
  const rows = follower.store.after('uid_tags', { revision: readWatermark(after)?.revision ?? 0, uid: '~' }, MAX_GREETED + 1)
  if (rows.length > MAX_GREETED) return null
  const data = { uid_tag_lists: Object.fromEntries(rows.map(({ uid, at, entry }) => [uid, entry === null ? null : uidTagsOf(entry, at, follower.view)])) }
  return JSON.stringify(data).length <= MAX_INCREMENT_BYTES ? data : null
}
