// The benchmark's Worker with a clock on the re-evaluation's alarms, and a way to hold it and step it by hand under a meter. What it does is not changed.
import { handle, type Route } from '../../workers/http/mount.ts'
import { meter } from '../../test/workers/meter.ts'
import { makeContext } from '../../workers/context.ts'
import { readConfig, type Env } from '../../workers/env.ts'
import { atRest, reEvaluate, type Standing } from '../../workers/flows/re-evaluate.ts'
import { renderFault } from '../../workers/http/render-fault.ts'
import { hold, plainSections, step, takeWork } from '../floor/sections.ts'
import plain, { ReEvaluation as Due } from './index.ts'

export { EndpointChannel, FcmNotify, FloorObject } from './index.ts'

// Objects of one Worker share its isolate here.
let held = false
let work = { alarms: 0, firstAt: 0, lastAt: 0, workedMs: 0 }

export class ReEvaluation extends Due {
  override async start(tell = false): Promise<void> { if (!held) await super.start(tell) }
  override async alarm(): Promise<void> {
    if (held) return
    const began = Date.now()
    await super.alarm()
    const now = Date.now()
    work = { alarms: work.alarms + 1, firstAt: work.firstAt === 0 ? began : work.firstAt, lastAt: now, workedMs: work.workedMs + now - began }
  }
}

const routes: readonly Route[] = [
  handle(plainSections, {
    async run({ env }, { body: { sections, os, after, limit, text } }) {
      const { results } = await env.DB.prepare(`SELECT s.uid, s.section, s.hash, s.at, ${text ? 'hex(s.body)' : 's.body'} AS body FROM (SELECT uid FROM endpoints WHERE uid > ? AND os = ? ORDER BY uid LIMIT ?) e CROSS JOIN endpoint_sections s ON s.uid = e.uid AND s.section IN (SELECT value FROM json_each(?))`)
        .bind(after, os, limit, JSON.stringify(sections)).all<{ uid: string; section: string; hash: string; body: string | readonly number[] }>()
      const bytes = results.reduce((sum, { uid, section, hash, body }) => sum + uid.length + section.length + hash.length + 8 + body.length / (text ? 2 : 1), 0)
      return { rows: results.length, bytes, last: results.at(-1)?.uid ?? null }
    },
  }),
  handle(hold, {
    run(_, { body }) {
      held = body.held
      return Promise.resolve({ ok: true as const })
    },
  }),
  handle(step, {
    async run({ env }, { body }) {
      const metered = meter(env.DB)
      const context = makeContext({ ...env, DB: metered.database }, readConfig(env), new Request('https://object/'), { waitUntil: (promise) => { void promise } })
      const { standing, next, busy, evaluated, written } = await reEvaluate(context, (body.standing ?? atRest) as Standing, Date.now())
      const { trips, rowsRead, rowsWritten, bytesRead } = metered.tally
      return { standing, again: busy || (next !== null && next <= Date.now() + 1_000), evaluated, written, trips, rowsRead, rowsWritten, bytesRead }
    },
  }),
  handle(takeWork, {
    run() {
      const { alarms, firstAt, lastAt, workedMs } = work
      work = { alarms: 0, firstAt: 0, lastAt: 0, workedMs: 0 }
      return Promise.resolve({ alarms, totalMs: lastAt - firstAt, workedMs })
    },
  }),
]
const byPath = new Map(routes.map((route) => [route.operation.path, route]))

export default {
  async fetch(request, env, context) {
    const route = byPath.get(new URL(request.url).pathname)
    if (route === undefined) return await plain.fetch(request, env, context)
    try {
      return await route.answer(makeContext(env, readConfig(env), request, context), {})
    } catch (thrown) {
      return renderFault(thrown, route.operation)
    }
  },
  scheduled: plain.scheduled,
} satisfies ExportedHandler<Env>
