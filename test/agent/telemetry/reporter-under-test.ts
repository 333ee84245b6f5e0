// A reporter with its timers in the test's hand, and a model of the EMS that takes its reports.
import { createReporter, sectionHash, type Reporter, type ReporterOptions, type ReportSent } from '../../../agent/telemetry/reporter.ts'
import { createTroubles } from '../../../agent/troubles.ts'
import { silentLog } from '../../../node/logging.ts'
import type { ReportedName, Sections } from '../../../protocol/facts.ts'
import { Fault } from '../../../protocol/faults.ts'
import { manualTimers } from '../manual-timers.ts'

export type Body = Parameters<ReporterOptions['send']>[0]
const documents = { profile: 1, rules: 1, licence: 1, authorities: 1 }
export const os = (version: string): Sections['os'] => ({ type: 'linux', name: 'Debian', version, kernel: '6.1', architecture: 'x64' })
export const agent = (version: string): Sections['agent'] => ({ version, protocol: '7.0.0', profileVersion: 0, rulesVersion: 0 })
export const user = (account: string): Sections['user'] => ({ account })

/** What the real EMS does with a report, in a few lines (workers/endpoint/telemetry.ts). */
export function modelEms() {
  const held = new Map<string, { hash: string; value: unknown }>()
  const model = {
    held, sequence: 0, reports: [] as Body[], refuses: new Set<string>(),
    take(body: Body) {
      model.reports.push(body)
      const given = Object.entries(body.sections).map(([name, value]) => ({ name, value, hash: sectionHash(value) }))
      if (given.some(({ name, hash }) => model.refuses.has(name) || (body.hashes as Record<string, string>)[name] !== hash)) throw new Fault('invalid', 'no')
      const changed = given.filter(({ name, hash }) => held.get(name)?.hash !== hash)
      const forgotten = (body.unknown ?? []).filter((name) => held.has(name))
      if (changed.length + forgotten.length > 0) {
        if (body.sequence <= model.sequence) throw new Fault('stale_sequence', 'stale', { sequence: model.sequence })
        model.sequence = body.sequence
        for (const { name, ...rest } of changed) held.set(name, rest)
        for (const name of forgotten) held.delete(name)
      }
      const wanted = (Object.keys(body.hashes) as ReportedName[]).filter((name) => held.get(name)?.hash !== body.hashes[name])
      return { sequence: model.sequence, wanted, documents, emsTime: 0 }
    },
  }
  return model
}

export interface Scene { reporter: Reporter; timers: ReturnType<typeof manualTimers>; sent: ReportSent[]; state: { sequence: number }; troubles: ReturnType<typeof createTroubles>; idle(): Promise<void> }
export function scene(send: ReporterOptions['send'], over: Partial<ReporterOptions> = {}): Scene {
  const timers = manualTimers()
  const sent: ReportSent[] = []
  const state = { sequence: 0 }
  const troubles = createTroubles(silentLog(), () => 0)
  const reporter = createReporter({
    send, now: () => 1_000, timers, troubles, log: silentLog(), random: () => 0.5,
    state: { sequence: () => state.sequence, answers: () => ({}), keep: (change) => { state.sequence = change.sequence ?? state.sequence; return Promise.resolve() } },
    onSent: (each) => sent.push(each), onVersions: () => undefined, onFault: () => Promise.resolve('later'), onDefect: (cause) => { throw cause }, ...over,
  })
  /** Until nothing waits for a timer and nothing is under way. */
  const idle = async () => {
    await timers.advance(0)
    for (let rounds = 0; timers.waiting().length > 0; rounds++) {
      if (rounds > 200) throw new Error('it never comes to rest')
      await timers.advance(1_000_000)
    }
  }
  return { reporter, timers, sent, state, troubles, idle }
}
