// Tags in the older form, by name: who bears them, and at which addresses those are seen. Readers of before the tables by UID know no other. Pure.
import type { LogEntry } from './log-entry.ts'
import type { View } from './notices.ts'
import { addressCommands, type AddressCommand, type Seen } from './tag-addresses.ts'
import type { Telling } from './whole-page.ts'

/** A page has the addresses of the endpoints that are on it: a reader joins the pages of one telling. */
export function olderTags(kept: Iterable<{ readonly at: number; readonly entry: LogEntry }>, seen: readonly Seen[], view: View, now: number, shown: (uid: string) => boolean): Telling {
  const names = [...view.tagNames.values()].filter(({ type }) => view.shareTagTypes.includes(type))
  const borne = ({ tags }: LogEntry) => names.filter(({ uid }) => tags.some((tag) => tag.tagUid === uid && tag.state === 'present' && (tag.validUntil === null || tag.validUntil > now))).map(({ name }) => name)
  const items = [...kept].filter(({ entry }) => entry.registered && entry.reported && shown(entry.uid)).map(({ at, entry }) => ({ key: entry.uid, at, names: borne(entry) }))
    .sort((a, b) => (a.key < b.key ? -1 : 1)).map((item) => ({ ...item, bytes: 150 + JSON.stringify(item.names).length }))
  return {
    items,
    shape(keys, isSnapshot) {
      const here = items.filter(({ key }) => keys.has(key))
      const commands = addressCommands(seen, view, now, (uid) => keys.has(uid))
      const valuesOf = (tagUid: string, kind: AddressCommand['type']) => commands.find(({ uuid, type }) => uuid === tagUid && type === kind)?.values ?? []
      return {
        is_snapshot: isSnapshot,
        tag_info: Object.fromEntries(names.map(({ name, description }) => [name, { description }])),
        tag_members: Object.fromEntries(names.map(({ uid, name }) => [name, { ip_list: valuesOf(uid, 'ipblock'), mac_list: valuesOf(uid, 'mac') }])),
        uid_tag_lists: Object.fromEntries(here.map(({ key, names: tags }) => [key, tags])),
        uid_info: Object.fromEntries(here.map(({ key, at }) => [key, { host_tag_update_time: Math.floor(at / 1000) }])),
      }
    },
  }
}
