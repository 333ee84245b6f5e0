// The user of the device is in a group of the directory, as the device tells it. Compared whole and without case, by name as it is told or by SID: `STAFF\admins` is not `OTHER\admins`.
import { z } from 'zod'
import type { Sections } from '../../../protocol/facts.ts'
import { line } from '../../../protocol/text.ts'
import { folded } from '../../user/folded.ts'
import { conditionType } from '../condition-type.ts'

const schema = z.strictObject({ /** Any of them. */ groups: z.array(line(256)).min(1).max(64) })
const said = (groups: readonly string[]) => groups.slice(0, 4).map((group) => `"${group}"`).join(', ') + (groups.length > 4 ? ` or ${groups.length - 4} more` : '')

export const adGroup = conditionType<z.infer<typeof schema>>({
  type: 'ad-group', schema, os: ['linux', 'windows', 'macos'], side: 'ems', section: 'directory',
  evaluate({ groups }, fact) {
    const { groups: own, groupsFrom } = fact.value as Sections['directory']
    if (own === undefined) return { value: 'unknown', seen: 'the groups of the user are not known', validUntil: null }
    const asked = new Set(groups.map((group) => folded(group)))
    const found = own.find(({ name, sid }) => asked.has(folded(name)) || (sid !== undefined && asked.has(folded(sid))))
    const from = groupsFrom === undefined ? '' : ` (by ${groupsFrom})`
    if (found !== undefined) return { value: 'true', seen: `in "${found.name}"${from}`, validUntil: null }
    // A group whose SID is not told may be the one that is asked for.
    const open = own.some(({ sid }) => sid === undefined) && groups.some((group) => /^S-1-/i.test(group))
    return { value: open ? 'unknown' : 'false', seen: `in ${own.length} other groups${open ? ', not all with a SID' : ''}${from}`, validUntil: null }
  },
  wanted: ({ groups }) => `the user is in ${said(groups)}`.slice(0, 200),
  mend: ({ groups }, negate) => `${negate ? 'Take the user out of' : 'Add the user to'} ${said(groups)} and log in anew.`.slice(0, 215),
})
