// The part of the rules that agents answer, and how an agent answers it.
import { utf8ToBytes } from '@noble/hashes/utils.js'
import { osType, type OsType, type Sections } from '../../protocol/facts.ts'
import type { AgentRules, Condition, RuleSet } from '../../protocol/rules.ts'
import { unprintable } from '../../protocol/text.ts'
import { conditionKey, questionOf } from './condition-key.ts'
import { sectionsOf, type Observation } from './condition-type.ts'
import { demandsOf, type Demands } from './demand.ts'
import type { Device, WatchTargets } from './device.ts'
import { readCondition } from './registry.ts'

/** As many as an agent takes (protocol/rules.ts), and as large as a document may be: one more and it would refuse the whole. */
const MOST_CONDITIONS = 1000
const MOST_BYTES = 256 * 1024

/** Every agent-side condition of enabled rule sets for one OS, each once, and how fresh they want what agents report. What is above the limit is never asked, so it stays unknown and passes nothing. */
export function agentRulesFor(os: OsType, ruleSets: readonly RuleSet[], revision: number): AgentRules {
  let bytes = 0
  const fits = (asked: Asked) => (bytes += bytesOf(asked)) <= MOST_BYTES
  const fresh = freshFor(os, ruleSets)
  return { revision, conditions: askedOf(os, ruleSets).slice(0, MOST_CONDITIONS).filter(fits), ...(Object.keys(fresh).length === 0 ? {} : { fresh }) }
}

type Asked = AgentRules['conditions'][number]
const bytesOf = (asked: Asked): number => utf8ToBytes(JSON.stringify(asked)).length
/** By key, each once. */
function askedOf(os: OsType, ruleSets: readonly AskingRuleSet[]): Asked[] {
  const conditions = new Map<string, AgentRules['conditions'][number]>()
  for (const ruleSet of ruleSets) {
    for (const condition of ruleSet.enabled ? ruleSet.rules[os]?.conditions ?? [] : []) {
      const read = readCondition(condition)
      if (!read.ok || read.type.side !== 'agent') continue
      const key = conditionKey(condition)
      conditions.set(key, { key, condition: questionOf(condition) })
    }
  }
  return [...conditions.values()].sort((a, b) => (a.key < b.key ? -1 : 1))
}

export type AskingRuleSet = Pick<RuleSet, 'enabled' | 'rules'>
/** Whether a rule set asks agents of one OS anything. */
export const asksAgents = (os: OsType, ruleSet: AskingRuleSet): boolean => askedOf(os, [ruleSet]).length > 0
/** Why agents of one OS can't be asked all of it: some, chosen by nobody, would never be asked. null: they can. */
export function tooMuchAsked(os: OsType, ruleSets: readonly AskingRuleSet[]): string | null {
  const asked = askedOf(os, ruleSets)
  if (asked.length > MOST_CONDITIONS) return `agents on ${os} would be asked ${asked.length} different things by all rule sets together; they take ${MOST_CONDITIONS}`
  const bytes = asked.reduce((sum, each) => sum + bytesOf(each), 0)
  return bytes > MOST_BYTES ? `what agents on ${os} would be asked by all rule sets together has ${bytes} bytes; they take ${MOST_BYTES}` : null
}

function freshFor(os: OsType, ruleSets: readonly RuleSet[]): Demands {
  const enabled = ruleSets.flatMap((ruleSet) => (ruleSet.enabled ? ruleSet.rules[os]?.conditions ?? [] : []))
  return demandsOf(enabled.flatMap((condition) => {
    const read = readCondition(condition)
    return read.ok && read.notOlderThanSeconds !== null && read.type.os.includes(os) ? [{ sections: sectionsOf(read.type, read.params), notOlderThanSeconds: read.notOlderThanSeconds }] : []
  }))
}

/** What a rule set asks of agents, as one text: agents need not hear of an edit that leaves it as it is. */
export const questionsOf = (ruleSet: RuleSet | null): string =>
  JSON.stringify(osType.options.map((os) => {
    const { conditions, fresh = {} } = agentRulesFor(os, ruleSet === null ? [] : [ruleSet], 0)
    return [conditions.map(({ key }) => key), fresh]
  }))

/** Answers conditions on the device. An answer's time moves only when the answer changed. What this agent does not know or can not look at is unknown. */
export async function answerConditions(rules: AgentRules, device: Device, previous: Sections['verdicts']['answers'], now: number): Promise<Sections['verdicts']> {
  // One look at the processes, and one at the certificates, answers every condition of the round.
  let processes: ReturnType<Device['processes']> | null = null
  let certificates: ReturnType<NonNullable<Device['certificates']>> | undefined
  const looked: Device = {
    fileFacts: (path) => device.fileFacts(path), processes: () => (processes ??= device.processes()),
    ...(device.certificates === undefined ? {} : { certificates: () => (certificates ??= device.certificates?.() ?? Promise.resolve([])) }),
    ...(device.registryValue === undefined ? {} : { registryValue: device.registryValue.bind(device) }),
  }
  const answers = await Promise.all(rules.conditions.map(async ({ key, condition }) => {
    const { value, seen } = await observe(condition, looked, now)
    const before = previous[key]
    const told = seenLine(seen)
    return [key, before?.value === value && before.seen === told ? before : { value, seen: told, at: now }] as const
  }))
  return { answers: Object.fromEntries(answers) }
}

/** One condition, before its NOT. A look that fails takes back the last answer: a `true` must not outlive the look that would renew it. */
async function observe(condition: Condition, device: Device, now: number): Promise<Observation> {
  const read = readCondition(condition)
  if (!read.ok || read.type.side !== 'agent') return { value: 'unknown', seen: `this agent does not know ${condition.type}` }
  try {
    return await read.type.observe(read.params, device, now)
  } catch (cause) {
    return { value: 'unknown', seen: `can not be looked at: ${cause instanceof Error ? cause.message : String(cause)}` }
  }
}

/** Replaced, not refused: any user may run a program from a path with control characters, and it must not stop the report of all answers. */
const seenLine = (text: string): string => text.toWellFormed().replaceAll(new RegExp(unprintable, 'gu'), '\uFFFD').slice(0, 512).toWellFormed()

/** What must be watched so that an answer changes when the device does. */
export function watchTargets(rules: AgentRules): WatchTargets {
  const targets = rules.conditions.flatMap(({ condition }) => {
    const read = readCondition(condition)
    return read.ok && read.type.side === 'agent' ? [read.type.watch(read.params)] : []
  })
  return { files: [...new Set(targets.flatMap(({ files }) => files))], processes: [...new Set(targets.flatMap(({ processes }) => processes))] }
}
