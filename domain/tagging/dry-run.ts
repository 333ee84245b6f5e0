// What another rule set would change for one endpoint: its tags as the rules give them now beside those that it would give. Nothing is stored, and nothing stands from before.
import type { Facts } from '../../protocol/facts.ts'
import type { DryRunChange, TagPresence, TagState } from '../../protocol/rules.ts'
import type { CompiledRules } from './compile.ts'
import { evaluateEndpoint, type Bears, type RuleVerdicts } from './evaluate.ts'

export interface Change { readonly tagUid: string; readonly before: TagPresence; readonly after: TagPresence; readonly change: DryRunChange }

/**
 * @param asIs the rules as they are, and `wouldBe` with the other rule set in its place
 * @param id of that rule set
 * @param tagUids the tags in question
 * @param bears the tags that are set on it, and all as they are stored
 * @param stored verdicts of the endpoint, and `touched`, the rule sets that were edited since; null: nobody knows which
 */
export function changesOf(given: { asIs: CompiledRules; wouldBe: CompiledRules; id: string; tagUids: readonly string[]; facts: Facts; bears: Bears; stored: RuleVerdicts; touched: ReadonlySet<string> | null; standing: ReadonlyMap<string, number>; at: number }): Change[] {
  const { facts, touched, at } = given
  const known = touched === null ? { changed: 'all', previous: {} } as const : { changed: [], previous: given.stored, standing: given.standing } as const
  const before = evaluateEndpoint({ rules: given.asIs, facts, bears: given.bears, now: at, ...known, ...(touched === null ? {} : { touched }) })
  // Without what may stand: who loses the tag when agents do not answer is what the editor asks.
  const standing = new Map([...given.standing].filter(([id]) => id !== given.id))
  const after = evaluateEndpoint({ rules: given.wouldBe, facts, bears: given.bears, now: at, ...known, ...(touched === null ? {} : { touched: new Set([...touched, given.id]), standing }) })
  const owes = after.verdicts[given.id]?.owes === true
  return given.tagUids.flatMap((tagUid) => {
    const [was, is] = [presence(before.tags, tagUid), presence(after.tags, tagUid)]
    if (is === was && !(owes && is === 'unknown')) return []
    return [{ tagUid, before: was, after: is, change: is === 'unknown' ? owes ? 'owes' : 'unknown' : is === 'present' ? 'gains' : was === 'present' ? 'loses' : 'clears' }]
  })
}

const presence = (tags: readonly TagState[], uid: string): TagPresence => tags.find(({ tagUid }) => tagUid === uid)?.state ?? 'absent'
