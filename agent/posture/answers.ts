// Answers the conditions that the EMS can't: asked again whenever something watched changes, one round at a time.
import { answerConditions, watchTargets } from '../../domain/tagging/agent-rules.ts'
import type { Device } from '../../domain/tagging/device.ts'
import type { AgentRules } from '../../protocol/rules.ts'
import type { Answers } from '../telemetry/telemetry-state.ts'

export interface AnswersOptions {
  readonly device: Device
  readonly rules: () => AgentRules | null
  readonly previous: () => Answers
  /** Whether processes can be seen here; if not, their conditions stay unanswered, which is unknown. */
  readonly processes: boolean
  /** ms, EMS clock */
  readonly now: () => number
  /** A round's answers; `changedAt` is when the change was noticed. */
  readonly onAnswers: (answers: Answers, changedAt: number) => Promise<void> | void
}

/** Returns how to ask again: rounds never overlap, and a change during one starts another. */
export function createAnswers(options: AnswersOptions): (noticedAt?: number) => Promise<void> {
  let running: Promise<void> | null = null
  let noticed: number | null = null

  async function rounds(): Promise<void> {
    while (noticed !== null) {
      const changedAt: number = noticed
      noticed = null
      const rules = options.rules()
      if (rules === null) return
      const answerable = { ...rules, conditions: rules.conditions.filter((each) => options.processes || watchTargets({ ...rules, conditions: [each] }).processes.length === 0) }
      const { answers } = await answerConditions(answerable, options.device, options.previous(), options.now())
      await options.onAnswers(answers, changedAt)
    }
  }

  return (noticedAt = options.now()) => {
    noticed = noticed === null ? noticedAt : Math.min(noticed, noticedAt)
    running ??= rounds().finally(() => { running = null })
    return running
  }
}
