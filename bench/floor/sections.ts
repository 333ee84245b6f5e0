// What the tagging benchmark's Worker answers beside the real operations: a plain paged read of sections, and the re-evaluation held, stepped by hand and timed.
import { z } from 'zod'
import { operation } from '../../protocol/operation.ts'
import { sectionName } from '../../protocol/facts.ts'

/** The next endpoints by UID, each with what is stored of these sections; the rows stay in the Worker. `text`: bodies as hexadecimal digits, which D1 hands over faster than as numbers. */
export const plainSections = operation({
  id: 'bench-sections', method: 'POST', path: '/bench/sections', caller: 'nobody', summary: 'Sections read and counted.',
  body: z.strictObject({ sections: z.array(sectionName).min(1), os: z.string(), after: z.string().max(32), limit: z.number().int().min(1).max(5_000), text: z.boolean() }),
  reply: z.object({ rows: z.number(), bytes: z.number(), last: z.string().nullable() }),
})

/** True: an edit starts nothing until steps are asked for. */
export const hold = operation({ id: 'bench-hold', method: 'POST', path: '/bench/hold', caller: 'nobody', summary: 'Hold the re-evaluation.', body: z.strictObject({ held: z.boolean() }), reply: z.object({ ok: z.literal(true) }) })
export const stepDone = z.object({ standing: z.unknown(), again: z.boolean(), evaluated: z.number(), written: z.number(), trips: z.number(), rowsRead: z.number(), rowsWritten: z.number(), bytesRead: z.number() })
/** One step with a meter on the database. `standing`: what the step before gave back. */
export const step = operation({ id: 'bench-step', method: 'POST', path: '/bench/step', caller: 'nobody', summary: 'One step, counted.', body: z.strictObject({ standing: z.unknown().optional() }), reply: stepDone })
/** Alarms of the object since it was last asked: ms from the first to the end of the last, and ms in which it worked; the rest is pauses. */
export const work = z.object({ alarms: z.number(), totalMs: z.number(), workedMs: z.number() })
export const takeWork = operation({ id: 'bench-work', method: 'POST', path: '/bench/work', caller: 'nobody', summary: 'How long the re-evaluation worked.', reply: work })
