// From facts to tags, for one endpoint: only the rule sets that read a changed section are worked out again. What a report-only rule set finds is a verdict like any other, and gives no tag.
import { osType, type Facts, type OsType, type SectionName } from '../../protocol/facts.ts'
import type { RuleSet, TagState } from '../../protocol/rules.ts'
import type { CompiledCondition, CompiledRules, CompiledRuleSet } from './compile.ts'
import type { TagsNow } from './condition-type.ts'
import { any, earliest, reach, workOut, type Timed } from './logic.ts'
import { settled, type RuleVerdict, type Worked } from './transition.ts'
import { noTags, truthOf, verdictOf } from './verdict.ts'

/** Rule set id → its verdict. A `false` that can't change by time alone is left out. */
export type RuleVerdicts = Readonly<Record<string, RuleVerdict>>

export interface Evaluation {
  readonly verdicts: RuleVerdicts
  readonly tags: TagState[]
  /** Ids of the rule sets whose value is not what it was. */
  readonly changedRuleSets: string[]
  /** ms: the earliest instant at which anything here can change without a new fact; null: never. */
  readonly nextDue: number | null
  /** Ids of the rule sets that were worked out. */
  readonly evaluated: string[]
  /** What could not be worked out and is unknown for that reason; it falls due again by itself. */
  readonly failures: readonly Failure[]
}
export interface Bears { readonly set: readonly TagState[]; readonly before: readonly TagState[] }
export interface Failure { readonly ruleSet: string; readonly detail: string }

/** What failed is worked out again this much later: by then another version of the EMS may run. */
const AGAIN_AFTER_MS = 21_600_000

const lasting: RuleVerdict = { value: 'false', validUntil: null }
const unknowable: RuleVerdict = { value: 'unknown', validUntil: null }
const undecided: Worked = { ...unknowable, open: null }

/** The OS that an endpoint's facts state; null when it is not known. */
export function osOf(facts: Facts): OsType | null {
  const known = osType.safeParse(facts.os?.value.type)
  return known.success ? known.data : null
}

/** Works out one rule set; `failures` takes what could not be. */
export function evaluateRuleSet({ ruleSet, conditions, logic, broken }: CompiledRuleSet, os: OsType, facts: Facts, now: number, failures: Failure[] = [], tags: TagsNow = noTags): Worked {
  if (broken !== null) return undecided
  const before = failures.length
  const worked: Timed[] = []
  const { value, validUntil } = workOut(logic, (index) => {
    const condition = conditions[index]
    if (condition === undefined) return undecided
    const verdict = verdictOf(condition, os, facts, now, tags)
    if (verdict.failure !== undefined) failures.push({ ruleSet: ruleSet.id, detail: verdict.failure })
    return worked[index] = truthOf(verdict, condition.negate)
  })
  const owed = value === 'unknown' && conditions.some((condition) => isOwed(condition, os, facts, now))
  const open = owed ? reach(logic, (index) => {
    const condition = conditions[index]
    return condition !== undefined && isOwed(condition, os, facts, now) ? 'open' : worked[index]?.value ?? 'unknown'
  }) : null
  return { value, open: open?.true === true || open?.false === true ? open : null, validUntil: failures.length === before ? validUntil : Math.min(validUntil ?? Infinity, now + AGAIN_AFTER_MS) }
}

/** An agent has yet to answer it, or to look again at what the rule wants fresher than it is known. */
const isOwed = (condition: CompiledCondition, os: OsType, facts: Facts, now: number): boolean =>
  condition.type.os.includes(os) && ((condition.key !== null && facts.verdicts?.value.answers[condition.key] === undefined) || isStale(condition, facts, now))
function isStale({ sections, proved, notOlderThanSeconds }: CompiledCondition, facts: Facts, now: number): boolean {
  const read = sections.flatMap((section) => facts[section] ?? [])
  if (notOlderThanSeconds === null || proved || sections.length === 0 || read.length < sections.length || read.some(({ provenance }) => provenance === 'proved')) return false
  return Math.min(...read.map(({ at }) => at)) + notOlderThanSeconds * 1000 <= now
}

/**
 * Evaluates an endpoint. While its OS is not known, nobody can say which rules are its own: every tag is unknown.
 * @param changed sections whose facts changed, or `all` (first report, or nothing is known of the verdicts before)
 * @param touched ids of the rule sets whose meaning changed since `previous` was worked out
 * @param renewed ids of the rule sets whose facts are as they were, and were found so anew: their verdicts may stand for longer
 * @param standing of those touched, the ones whose verdict from before may stand while agents owe an answer, and until when (ms)
 * @param system the OS for which `previous` was worked out: nothing of another one stands; where it is not told, nothing does after a change of the `os` section
 * @param bears what the endpoint bears: the tags that are set and hold, and all as they stood when `previous` was worked out
 * @param previous verdicts; used for rule sets that were not touched, read nothing that changed, and are not due
 * @param now ms
 */
export function evaluateEndpoint(given: {
  rules: CompiledRules; facts: Facts; changed: readonly SectionName[] | 'all'; touched?: ReadonlySet<string>; renewed?: ReadonlySet<string>; standing?: ReadonlyMap<string, number>; system?: string; bears?: Bears; previous: RuleVerdicts; now: number
}): Evaluation {
  const { rules, facts, previous, now } = given
  const os = osOf(facts)
  const verdicts: Record<string, RuleVerdict> = {}
  const evaluated: string[] = []
  const failures: Failure[] = []
  const byTag = new Map<string, Timed[]>()
  const note = ({ id, tagUid, mode }: RuleSet, verdict: RuleVerdict) => {
    if (verdict.value !== 'false' || verdict.validUntil !== null) verdicts[id] = verdict
    if (mode === 'shadow') return
    const others = byTag.get(tagUid)
    if (others === undefined) byTag.set(tagUid, [verdict])
    else others.push(verdict)
  }
  const tags = tagsFrom(rules, byTag, given.bears?.set ?? [])
  /** Beside the state that is stored, until when it held: an absent tag that may come back is stored with the verdicts alone. */
  const turned = (name: string): boolean => {
    const [uid, is] = [rules.tagUids.get(name), tags(name)]
    const gave = any((rules.byTag.get(uid ?? '') ?? []).filter(({ mode }) => mode !== 'shadow').map(({ id }) => previous[id] ?? lasting))
    return is === null || !sameTag(is, given.bears?.before.find(({ tagUid }) => tagUid === uid)) || (is.value === 'false' && is.validUntil !== gave.validUntil)
  }
  if (os === null) {
    for (const giving of rules.byTag.values()) for (const ruleSet of giving) note(ruleSet, unknowable)
  } else {
    // The `os` section chooses which rules are read, so each rule set reads it: another OS must find nothing that stands.
    const otherOs = given.changed !== 'all' && given.changed.includes('os')
    const changed = given.changed === 'all' || otherOs ? null : new Set(given.changed)
    for (const compiled of rules.byOs[os]) {
      const { ruleSet } = compiled
      const { id } = ruleSet
      const before = previous[id] ?? lasting
      const stands = changed !== null && compiled.broken === null && given.touched?.has(id) !== true && given.renewed?.has(id) !== true && !reads(compiled, changed) && (compiled.tags.size === 0 || ![...compiled.tags].some(turned)) && (before.validUntil === null || before.validUntil > now)
      if (stands) {
        note(ruleSet, before)
        continue
      }
      evaluated.push(id)
      const until = (given.system === undefined ? otherOs : given.system !== os) ? null : given.touched?.has(id) === true ? given.standing?.get(id) ?? null : before.standsUntil ?? null
      note(ruleSet, settled(evaluateRuleSet(compiled, os, facts, now, failures, tags), before, until, now))
    }
  }
  const borne = [...byTag].flatMap(([tagUid, giving]): TagState[] => {
    const { value, validUntil } = any(giving)
    return value === 'false' ? [] : [{ tagUid, state: value === 'true' ? 'present' : 'unknown', validUntil }]
  }).sort((a, b) => (a.tagUid < b.tagUid ? -1 : 1))
  const changedRuleSets = [...new Set([...Object.keys(previous), ...Object.keys(verdicts)])]
    .filter((id) => (previous[id] ?? lasting).value !== (verdicts[id] ?? lasting).value)
  return { verdicts, tags: borne, changedRuleSets, nextDue: earliest(Object.values(verdicts)), evaluated, failures }
}

/** Tags as they are while rule sets are worked out in order: those that give one have been. */
function tagsFrom({ tagUids }: CompiledRules, byTag: ReadonlyMap<string, readonly Timed[]>, set: readonly TagState[]): TagsNow {
  return (name) => {
    const uid = tagUids.get(name)
    if (uid === undefined) return null
    const there = set.find(({ tagUid }) => tagUid === uid)
    return there === undefined ? any(byTag.get(uid) ?? []) : { value: 'true', validUntil: there.validUntil }
  }
}
const sameTag = ({ value, validUntil }: Timed, was: TagState | undefined): boolean =>
  (was === undefined ? value === 'false' : value === (was.state === 'present' ? 'true' : 'unknown') && validUntil === was.validUntil)

const reads = ({ sections }: CompiledRuleSet, changed: ReadonlySet<SectionName>): boolean => {
  for (const section of sections) if (changed.has(section)) return true
  return false
}
