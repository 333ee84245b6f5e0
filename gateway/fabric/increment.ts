// The increment that a notice carries: checked like a page, then written into a draft. What does not read as one is read from the report instead.
import { sysinfoIncrement, uidTagsIncrement } from '../../protocol/fabric/tables.ts'
import { memberNames, systemFacts, tagFacts } from './records.ts'
import type { Draft, FollowedTable } from './replica.ts'

/** Maps the data of a notice; null when it is not of the table's shape. Throws a `Fault` when it contradicts itself. */
export function incrementOf(table: FollowedTable, data: unknown): ((draft: Draft) => void) | null {
  if (table === 'sysinfo') {
    const read = sysinfoIncrement.safeParse(data).data
    if (read === undefined) return null
    const rows = Object.entries(read).map(([uid, row]) => [uid, systemFacts(uid, row)] as const)
    return (draft) => {
      for (const [uid, facts] of rows) draft.system(uid, facts)
    }
  }
  if (table === 'uid_tags') {
    const read = uidTagsIncrement.safeParse(data).data
    if (read === undefined) return null
    const rows = Object.entries(read.uid_tag_lists).map(([uid, row]) => [uid, tagFacts(uid, row)] as const)
    return (draft) => {
      for (const [uid, facts] of rows) draft.tags(uid, facts)
      draft.moreTagNames(memberNames(Object.values(read.uid_tag_lists)))
    }
  }
  return null // names of tags are few: they are read whole
}
