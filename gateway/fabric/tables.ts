// One page of a report table, read over the signed API and mapped. Where it is applied is decided by whoever reads.
import type { ControlClient } from '../../node/control-client.ts'
import { Fault } from '../../protocol/faults.ts'
import * as fabric from '../../protocol/operations/fabric.ts'
import { memberNames, systemFacts, tagFacts, type SystemFacts, type TagFacts } from './records.ts'
import type { Draft } from './replica.ts'

/** Where to go on: what the page before handed out. */
export interface Cursor { readonly watermark: string; readonly offset?: string }
export interface Page<F> {
  readonly next: Cursor
  readonly isFinal: boolean
  /** It begins a whole reload: what was held of this table is no longer so. */
  readonly isSnapshot: boolean
  readonly rows: ReadonlyMap<string, F | null>
  /** Names that the rows bring along. */
  readonly tagNames: ReadonlyMap<string, string>
}

/** A table that is read in pages. */
export interface PagedTable<F> {
  readonly name: 'sysinfo' | 'uid_tags'
  read(client: ControlClient, cursor: Cursor): Promise<Page<F>>
  change(draft: Draft, uid: string, facts: F | null): void
  replace(draft: Draft, rows: ReadonlyMap<string, F>): void
}

const queryOf = ({ watermark, offset }: Cursor) => ({ ...(watermark === '' ? {} : { updated_after: watermark }), ...(offset === undefined ? {} : { uid_offset: offset }) })

interface Told { updated_after: string; uid_offset?: string | undefined; is_final: boolean; is_zipped: boolean; is_snapshot: boolean }
function head(cursor: Cursor, page: Told) {
  if (page.is_zipped) throw new Fault('internal', 'The EMS sent a compressed page, which was not asked for.')
  const next: Cursor = page.is_final || page.uid_offset === undefined ? { watermark: page.updated_after } : { watermark: page.updated_after, offset: page.uid_offset }
  // A reader that is sent round in circles would never be current and never say why.
  if (!page.is_final && next.watermark === cursor.watermark && next.offset === cursor.offset) throw new Fault('internal', 'The EMS sent a page that leads back to itself.')
  return { next, isFinal: page.is_final, isSnapshot: page.is_snapshot || (cursor.watermark === '' && cursor.offset === undefined) }
}

/** What has left this gateway's sight. */
const gone = ({ removed }: { removed: readonly string[] }) => removed.map((uid) => [uid, null] as const)

export const systemTable: PagedTable<SystemFacts> = {
  name: 'sysinfo',
  async read(client, cursor) {
    const { data: page } = await client.call(fabric.sysinfo.get, { query: queryOf(cursor) })
    return { ...head(cursor, page), rows: new Map([...Object.entries(page.data).map(([uid, row]) => [uid, systemFacts(uid, row)] as const), ...gone(page)]), tagNames: new Map() }
  },
  change: (draft, uid, facts) => draft.system(uid, facts),
  replace: (draft, rows) => draft.wholeSystem(rows),
}

export const tagTable: PagedTable<TagFacts> = {
  name: 'uid_tags',
  async read(client, cursor) {
    const { data: page } = await client.call(fabric.uidTags.get, { query: queryOf(cursor) })
    const lists = page.data.uid_tag_lists
    return { ...head(cursor, page), rows: new Map([...Object.entries(lists).map(([uid, row]) => [uid, tagFacts(uid, row)] as const), ...gone(page)]), tagNames: memberNames(Object.values(lists)) }
  },
  change: (draft, uid, facts) => draft.tags(uid, facts),
  replace: (draft, rows) => draft.wholeTags(rows),
}
