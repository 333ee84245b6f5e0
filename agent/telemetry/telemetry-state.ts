// What telemetry remembers between starts: the last sequence and the answers to conditions, so that a restart is no news.
import { z } from 'zod'
import { readJson, writeJson } from '../../node/key-store.ts'
import { sections, type Sections } from '../../protocol/facts.ts'

const stored = z.object({ sequence: z.number().int().min(0), answers: sections.verdicts.shape.answers })
export type Answers = Sections['verdicts']['answers']

export interface TelemetryState {
  sequence(): number
  answers(): Answers
  /** Resolves when it is on disk. */
  keep(change: { sequence?: number; answers?: Answers }): Promise<void>
}

/** Opens it. A damaged file throws: a sequence made up anew would be taken for an old report. */
export async function openTelemetryState(file: string): Promise<TelemetryState> {
  let state = await readJson(file, stored) ?? { sequence: 0, answers: {} }
  let writing: Promise<void> = Promise.resolve()
  return {
    sequence: () => state.sequence,
    answers: () => state.answers,
    keep(change) {
      state = { ...state, ...change }
      writing = writing.catch(() => undefined).then(() => writeJson(file, state))
      return writing
    },
  }
}
