// Pages of the tables that are derived from all endpoints, and so told whole whenever something in them changed. A change between two pages begins anew.
import { PAGE_BYTES } from '../protocol/fabric/envelope.ts'
import type { Follower } from './follower.ts'
import { olderTags } from './older-tags.ts'
import { fitting } from './page-place.ts'
import type { PageRequest, ReportPage } from './report-page.ts'
import { addressCommands, devicesSeen } from './tag-addresses.ts'

export type WholeTable = 'tags' | 'host_tags'
export const isWhole = (table: string): table is WholeTable => table === 'tags' || table === 'host_tags'
/** A table as it is now: its items in the order of their keys, and how some of them are told. */
export interface Telling {
  readonly items: readonly { readonly key: string; readonly bytes: number }[]
  shape(keys: ReadonlySet<string>, isSnapshot: boolean): object
}
/** Where the reader stands: whether what it holds can be continued, and from which revision; and since when the endpoints that it asked for are these. */
export interface Standpoint { readonly revision: number; readonly since: number; readonly goesOn: boolean; readonly watermark: string; readonly subscribedAt: number }

/** The revision that last changed the table. Fold first. */
export function wholeChangedAt({ store }: Follower, table: WholeTable): number {
  const addresses = Math.max(store.lastChange('tags').revision, store.tagsChangedAt(), store.sightsChangedAt())
  return table === 'tags' ? addresses : Math.max(addresses, store.lastChange('uid_tags').revision)
}

/**
 * @param tells whether this gateway is told tags at all
 * @param shown whether the reader asked for that endpoint
 */
export function wholePage(follower: Follower, table: WholeTable, request: PageRequest, at: Standpoint, tells: boolean, shown: (uid: string) => boolean): ReportPage {
  const changedAt = Math.max(wholeChangedAt(follower, table), at.subscribedAt)
  const [, told, place = ''] = /^(\d{1,16})\/(.+)$/.exec(request.offset) ?? []
  const resumed = told !== undefined && changedAt <= Number(told)
  const isNews = resumed || !at.goesOn || changedAt > at.since
  const telling = tellingOf(follower, table, at.revision, isNews && tells, shown)
  const items = telling.items.filter(({ key }) => !resumed || key > place)
  const { taken, bytes } = fitting(items, (item) => item.bytes, Math.min(request.maxBytes, PAGE_BYTES))
  const last = taken.at(-1)
  const goesFurther = taken.length < items.length && last !== undefined
  const isSnapshot = isNews && !resumed
  return {
    updatedAfter: goesFurther ? request.updatedAfter : at.watermark, offset: goesFurther ? `${resumed ? told : at.revision}/${last.key}` : null, isSnapshot, bytes, removed: [],
    data: telling.shape(new Set(taken.map(({ key }) => key)), isSnapshot),
  }
}

function tellingOf(follower: Follower, table: WholeTable, revision: number, any: boolean, shown: (uid: string) => boolean): Telling {
  const { store, view, settings } = follower
  const now = Date.now()
  const seen = any ? devicesSeen(store.all(), store.sights(), settings?.serial ?? '') : []
  if (table === 'host_tags') return olderTags(any ? store.all() : [], seen, any ? view : { ...view, tagNames: new Map() }, now, shown)
  const commands = any ? addressCommands(seen, view, now, shown) : []
  const keyed = commands.map((command) => ({ key: `${command.uuid}/${command.type}`, command, bytes: JSON.stringify(command).length + 1 }))
  return {
    items: keyed,
    shape: (keys) => ({
      command_version: revision, serial: settings?.serial ?? '', device_type: 'fct', send_mac: true, no_vdom: true,
      commands: keyed.filter(({ key }) => keys.has(key)).map(({ command }) => command),
    }),
  }
}
