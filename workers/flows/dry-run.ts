// One page of a dry run: who would gain or lose a tag by a rule set, worked out from stored facts. Reads as much as a page of the re-evaluation, and writes nothing.
import { assignedStates, readAssigned } from '../../domain/tagging/assigned.ts'
import { compileRules } from '../../domain/tagging/compile.ts'
import { changesOf } from '../../domain/tagging/dry-run.ts'
import type { RuleVerdicts } from '../../domain/tagging/evaluate.ts'
import { systemsOf } from '../../domain/tagging/rule-set.ts'
import { Fault } from '../../protocol/faults.ts'
import type { dryRunRuleSet } from '../../protocol/operations/admin.ts'
import type { Parsed, Reply } from '../../protocol/operation.ts'
import type { RuleSet, TagState } from '../../protocol/rules.ts'
import { countReported, evaluatedOf, nextReported, sectionsOf } from '../../schema/queries/behind.ts'
import type { Context } from '../context.ts'
import { fitting, MAX_ROWS, PAGE, sectionsRead } from './behind.ts'
import { readSections } from './facts.ts'
import { rulesOf, standingSince, touchedSince } from './rules.ts'
import { evaluatedThrough, selectStates } from './states.ts'

export async function dryRun(context: Context, { ruleSet: input, replaces, after = '' }: Parsed<typeof dryRunRuleSet>['body']): Promise<Reply<typeof dryRunRuleSet>> {
  const { db } = context
  const [states, counted] = await db.batch([selectStates(context), countReported(db)])
  const held = await rulesOf(context, states)
  const edited = held.ruleSets.find(({ id }) => id === replaces) ?? null
  if (replaces !== null && edited === null) throw new Fault('not_found', 'There is no such rule set.')
  const tagUid = held.ruleSets.find(({ tag }) => tag === input.tag)?.tagUid ?? crypto.randomUUID()
  // As if it were enforced: that is what its author wants to know before it is. One that is enforced and becomes report-only takes its tag from whoever has it by that.
  const wanted: RuleSet = { id: edited?.id ?? crypto.randomUUID(), tagUid, ...input, mode: edited?.mode === 'enforce' ? input.mode : 'enforce' }
  const others = held.ruleSets.filter(({ id }) => id !== wanted.id)
  const wouldBe = compileRules([...others, wanted], held.rules.revision, [...held.rules.tagUids].map(([name, uid]) => ({ name, uid })))

  const through = evaluatedThrough(states)
  // Its own tag, the one that it gave before, and those of rule sets that read tags: they may turn with it.
  const readers = [...Object.values(held.rules.byOs), ...Object.values(wouldBe.byOs)].flat().filter(({ tags, ruleSet }) => tags.size > 0 && ruleSet.mode === 'enforce').map(({ ruleSet }) => ruleSet)
  const names = new Map([...readers, ...edited === null ? [] : [edited], wanted].map((each) => [each.tagUid, each.tag]))
  const touched = touchedSince(held, through)
  // What gives the tags in question, and what some endpoint has yet to be worked out with.
  const concerned = touched === 'all' ? 'all' : new Set([...touched, wanted.id, ...held.ruleSets.filter((each) => names.has(each.tagUid)).map(({ id }) => id)])
  const sections = [...new Set([...sectionsRead(held.rules, concerned), ...sectionsRead(wouldBe, concerned)])]
  const filter = { ruleSets: [wanted.id], systems: [...new Set([...systemsOf(wanted), ...edited === null ? [] : systemsOf(edited)])] }
  const limit = Math.min(PAGE, Math.floor(MAX_ROWS / sections.length))
  const next = await nextReported(db, { after, touched: filter, sections, limit })
  const can = next.filter((each) => each.concerned === 1)
  const chosen = fitting(can)
  const cut = chosen.length < can.length
  const until = (cut ? chosen : next).at(-1)?.uid ?? ''
  const uids = chosen.map(({ uid }) => uid)

  const [rows, stored] = uids.length === 0 ? [[], []] : await db.batch([evaluatedOf(db, uids), sectionsOf(db, uids, sections)])
  const bySection = Map.groupBy(stored, ({ uid }) => uid)
  const now = context.now()
  const items = rows.flatMap((row) => {
    const since = Math.max(row.rulesRevision, through)
    const owed = touchedSince(held, since)
    const changes = changesOf({
      asIs: held.rules, wouldBe, id: wanted.id, tagUids: [...names.keys()], facts: readSections(bySection.get(row.uid) ?? []).facts, stored: JSON.parse(row.verdicts) as RuleVerdicts,
      bears: { set: assignedStates(readAssigned(row.assigned), now), before: JSON.parse(row.tags) as TagState[] }, touched: owed === 'all' ? null : owed, standing: standingSince(held, since), at: now,
    })
    return changes.map(({ tagUid: of, ...change }) => ({ uid: row.uid, hostName: row.hostName, tag: names.get(of) ?? '', ...change }))
  })
  return { items, examined: next.filter(({ uid }) => uid <= until).length, total: after === '' ? counted[0]?.count ?? 0 : null, next: cut || next.length === limit ? until : null }
}
