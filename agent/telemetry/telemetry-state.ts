// What telemetry remembers between starts: the last sequence and the answers to conditions, so that a restart is no news.
import { z } from 'zod'
import { readJson } from '../../node/key-store.ts'
import { sections, type Sections } from '../../protocol/facts.ts'
import type { KeptFile } from '../kept-file.ts'

const stored = z.object({ sequence: z.number().int().min(0), answers: sections.verdicts.shape.answers })
export type StoredTelemetry = z.infer<typeof stored>
export type Answers = Sections['verdicts']['answers']

export interface TelemetryState {
  sequence(): number
  answers(): Answers
  /** Holds at once; resolves when it is on disk, or when it has been said that it could not be put there: a lost sequence is resumed from the EMS. */
  keep(change: { sequence?: number; answers?: Answers }): Promise<void>
}

/** Opens it. A damaged file throws: a sequence made up anew would be taken for an old report. */
export async function openTelemetryState(path: string, file: KeptFile<StoredTelemetry>): Promise<TelemetryState> {
  let state = await readJson(path, stored) ?? { sequence: 0, answers: {} }
  return {
    sequence: () => state.sequence,
    answers: () => state.answers,
    async keep(change) {
      state = { ...state, ...change }
      await file.write(state)
    },
  }
}
