// Answers the conditions that the EMS can't: asked again whenever something watched changes, one round at a time.
import { answerConditions, watchTargets } from '../../domain/tagging/agent-rules.ts'
import type { Device } from '../../domain/tagging/device.ts'
import type { AgentRules } from '../../protocol/rules.ts'
import type { Answers } from '../telemetry/telemetry-state.ts'
import type { Timers } from '../../node/timers.ts'

export interface AnswersOptions {
  readonly device: Device
  readonly rules: () => AgentRules | null
  readonly previous: () => Answers
  /** Whether processes can be seen here; if not, their conditions stay unanswered, which is unknown. */
  readonly processes: boolean
  /** ms, EMS clock */
  readonly now: () => number
  readonly timers: Timers
  /** A round's answers; `changedAt` is when the change was noticed, `lookedAt` when the round began. */
  readonly onAnswers: (answers: Answers, changedAt: number, lookedAt: number) => Promise<void> | void
}

/** A file that is written all the time must not keep the agent busy all the time: between rounds it rests this long, or as long as the last one took. */
const REST_MS = 50

/** Returns how to ask again; what it returns resolves when a round that began afterwards is done. Rounds never overlap. */
export function createAnswers(options: AnswersOptions): (noticedAt?: number) => Promise<void> {
  const { timers } = options
  let noticed: number | null = null
  let running: Promise<void> = Promise.resolve()
  let waiting: Promise<void> | null = null
  let restedAt = 0
  let answerable: { readonly of: AgentRules; readonly rules: AgentRules } | null = null

  function rulesNow(): AgentRules | null {
    const of = options.rules()
    if (of === null || options.processes) return of
    if (answerable?.of !== of) answerable = { of, rules: { ...of, conditions: of.conditions.filter((each) => watchTargets({ ...of, conditions: [each] }).processes.length === 0) } }
    return answerable.rules
  }

  async function round(): Promise<void> {
    const lookedAt = options.now()
    const changedAt = noticed ?? lookedAt
    noticed = null
    const rules = rulesNow()
    if (rules === null) return
    const begun = performance.now()
    const { answers } = await answerConditions(rules, options.device, options.previous(), lookedAt)
    await options.onAnswers(answers, changedAt, lookedAt)
    const ended = performance.now()
    restedAt = ended + Math.max(REST_MS, ended - begun)
  }

  async function nextRound(before: Promise<void>): Promise<void> {
    await before.catch(() => undefined) // whoever asked for that one hears of it
    const restMs = restedAt - performance.now()
    if (restMs > 0) await new Promise<void>((resolve) => { timers.after(restMs, resolve) })
    waiting = null
    running = round()
    return await running
  }

  return (noticedAt = options.now()) => {
    noticed = noticed === null ? noticedAt : Math.min(noticed, noticedAt)
    waiting ??= nextRound(running)
    return waiting
  }
}
