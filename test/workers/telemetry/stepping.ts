// The re-evaluation stepped by the test: its object is told of nothing, and what each step costs is counted.
import { atRest, reEvaluate, type Standing, type Step } from '../../../workers/flows/re-evaluate.ts'
import type { Env } from '../../../workers/env.ts'
import { sendTo, TOKEN } from '../ems.ts'
import { meter } from '../meter.ts'
import { contextOf, envWith, real } from '../standing.ts'
import { uidOf } from './fleet.ts'

const { DB } = real
export const metered = meter(DB)
/** The object is not told: what it would do, the test does itself. */
const untold = { getByName: () => ({ start: () => Promise.resolve(), due: () => Promise.resolve(), progress: () => real.RE_EVALUATION.getByName('one').progress() }) } as unknown as Env['RE_EVALUATION']
/** An administrator's request of which the object is not told. */
export const quietly = (method: string, path: string, body?: object, bindings: Partial<Env> = {}) => sendTo(envWith({ RE_EVALUATION: untold, ...bindings }), method, `/api/v1/admin${path}`, { body, headers: { authorization: `Bearer ${TOKEN}` } })
export const rowOf = (n: number) => DB.prepare('SELECT * FROM endpoints WHERE uid = ?').bind(uidOf(n)).first<{ version: number; rules_revision: number; tags: string; next_due: number | null }>()

/** Steps until nothing is due, each within the limits of one invocation. */
export async function worked(standing: Standing = atRest, bindings = envWith({ DB: metered.database }), at = Date.now) {
  const sum = { steps: 0, evaluated: 0, written: 0, rowsWritten: 0, rowsRead: 0 }
  for (let step: Step = { standing, busy: false, next: 0, evaluated: 0, written: 0 }; step.next !== null && step.next <= at() + 60_000;) {
    metered.reset()
    step = await reEvaluate(contextOf(bindings), step.standing, at())
    standing = step.standing
    Object.assign(sum, { steps: sum.steps + 1, evaluated: sum.evaluated + step.evaluated, written: sum.written + step.written, rowsWritten: sum.rowsWritten + metered.tally.rowsWritten, rowsRead: sum.rowsRead + metered.tally.rowsRead })
    if (sum.steps > 500) throw new Error('it does not end')
  }
  return { ...sum, standing }
}

/** Works off what there is at an instant (ms). */
export async function workedAt(at: number, standing: Standing = atRest) {
  let written = 0
  for (let steps = 0; ; steps++) {
    if (steps > 100) throw new Error('it does not end')
    metered.reset()
    const step = await reEvaluate({ ...contextOf(envWith({ DB: metered.database, RE_EVALUATION: untold })), now: () => at }, standing, at)
    standing = step.standing
    written += step.written
    if (!step.busy && (step.next === null || step.next > at)) return { written, next: step.next, standing }
  }
}
