// The part of the rules that agents answer, and how an agent answers it.
import type { OsType, Sections } from '../../protocol/facts.ts'
import type { AgentRules, RuleSet } from '../../protocol/rules.ts'
import { conditionKey } from './condition-key.ts'
import type { Device, WatchTargets } from './device.ts'
import { readCondition } from './registry.ts'

/** Every agent-side condition of enabled rule sets for one OS, each once. */
export function agentRulesFor(os: OsType, ruleSets: readonly RuleSet[], revision: number): AgentRules {
  const conditions = new Map<string, AgentRules['conditions'][number]>()
  for (const ruleSet of ruleSets) {
    for (const condition of ruleSet.enabled ? ruleSet.rules[os]?.conditions ?? [] : []) {
      const read = readCondition(condition)
      if (!read.ok || read.type.side !== 'agent') continue
      const key = conditionKey(condition)
      conditions.set(key, { key, condition: { ...condition, negate: false } })
    }
  }
  return { revision, conditions: [...conditions.values()].sort((a, b) => (a.key < b.key ? -1 : 1)) }
}

/** Answers conditions on the device. An answer's time moves only when the answer changed. A type this agent does not know is unknown. */
export async function answerConditions(rules: AgentRules, device: Device, previous: Sections['verdicts']['answers'], now: number): Promise<Sections['verdicts']> {
  const answers = await Promise.all(rules.conditions.map(async ({ key, condition }) => {
    const read = readCondition(condition)
    const { value, seen } = read.ok && read.type.side === 'agent'
      ? await read.type.observe(read.params, device)
      : { value: 'unknown' as const, seen: `this agent does not know ${condition.type}` }
    const before = previous[key]
    const bounded = seen.slice(0, 512)
    return [key, before?.value === value && before.seen === bounded ? before : { value, seen: bounded, at: now }] as const
  }))
  return { answers: Object.fromEntries(answers) }
}

/** What must be watched so that an answer changes when the device does. */
export function watchTargets(rules: AgentRules): WatchTargets {
  const targets = rules.conditions.flatMap(({ condition }) => {
    const read = readCondition(condition)
    return read.ok && read.type.side === 'agent' ? [read.type.watch(read.params)] : []
  })
  return { files: [...new Set(targets.flatMap(({ files }) => files))], processes: [...new Set(targets.flatMap(({ processes }) => processes))] }
}
