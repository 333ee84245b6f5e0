// The reporter against a model of the EMS: what is lost, doubled or refused on the way neither loses a section nor invents one.
import canonicalize from 'canonicalize'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createReporter, sectionHash, type Reporter, type ReporterOptions, type ReportSent } from '../../../agent/telemetry/reporter.ts'
import { createTroubles } from '../../../agent/troubles.ts'
import { silentLog } from '../../../node/logging.ts'
import type { SectionName, Sections } from '../../../protocol/facts.ts'
import { Fault } from '../../../protocol/faults.ts'
import { manualTimers } from '../manual-timers.ts'

type Body = Parameters<ReporterOptions['send']>[0]
const documents = { profile: 1, rules: 1, licence: 1, authorities: 1 }
const os = (version: string): Sections['os'] => ({ type: 'linux', name: 'Debian', version, kernel: '6.1', architecture: 'x64' })
const agent = (version: string): Sections['agent'] => ({ version, protocol: '7.0.0', profileVersion: 0, rulesVersion: 0 })
const user = (account: string): Sections['user'] => ({ account })

/** What the real EMS does with a report, in a few lines (workers/endpoint/telemetry.ts). */
function modelEms() {
  const held = new Map<string, { hash: string; value: unknown }>()
  const model = {
    held, sequence: 0, reports: [] as Body[], refuses: new Set<string>(),
    take(body: Body) {
      model.reports.push(body)
      const given = Object.entries(body.sections).map(([name, value]) => ({ name, value, hash: sectionHash(value) }))
      if (given.some(({ name, hash }) => model.refuses.has(name) || (body.hashes as Record<string, string>)[name] !== hash)) throw new Fault('invalid', 'no')
      const changed = given.filter(({ name, hash }) => held.get(name)?.hash !== hash)
      if (changed.length > 0) {
        if (body.sequence <= model.sequence) throw new Fault('stale_sequence', 'stale', { sequence: model.sequence })
        model.sequence = body.sequence
        for (const { name, ...rest } of changed) held.set(name, rest)
      }
      const wanted = (Object.keys(body.hashes) as SectionName[]).filter((name) => held.get(name)?.hash !== body.hashes[name])
      return { sequence: model.sequence, wanted, documents, emsTime: 0 }
    },
  }
  return model
}

interface Scene { reporter: Reporter; timers: ReturnType<typeof manualTimers>; sent: ReportSent[]; state: { sequence: number }; troubles: ReturnType<typeof createTroubles>; idle(): Promise<void> }
function scene(send: ReporterOptions['send'], over: Partial<ReporterOptions> = {}): Scene {
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

describe('a reporter', () => {
  it('asks by hashes first, then sends what is wanted, then only what changed', async () => {
    const ems = modelEms()
    const { reporter, idle } = scene((body) => Promise.resolve(ems.take(body)))
    reporter.hold('os', os('1'))
    reporter.hold('user', user('ada'))
    expect(ems.reports).toEqual([])
    reporter.flush()
    await idle()
    reporter.hold('os', os('2'))
    await idle()
    reporter.hold('os', os('2'))
    await idle()
    expect(ems.reports.map(({ sequence, sections, hashes }) => [sequence, Object.keys(sections), Object.keys(hashes)])).toEqual([[0, [], ['os', 'user']], [1, ['os', 'user'], ['os', 'user']], [2, ['os'], ['os', 'user']]])
    expect(reporter.lastTaken()).toBe(1_000)
  })

  it('repeats a report whose reply was lost under the same sequence', async () => {
    const ems = modelEms()
    let lost = 0
    const { reporter, idle, sent } = scene((body) => {
      const reply = ems.take(body)
      if (body.sequence === 1 && lost++ === 0) throw new Fault('busy', 'lost')
      return Promise.resolve(reply)
    })
    reporter.hold('os', os('1'))
    reporter.flush()
    await idle()
    expect(sent.filter(({ sections }) => sections.length > 0).map(({ sequence }) => sequence)).toEqual([1, 1])
    expect(ems.sequence).toBe(1)
  })

  it('resumes from the sequence of the EMS when its own was lost', async () => {
    const ems = modelEms()
    ems.sequence = 40
    const { reporter, idle, state } = scene((body) => Promise.resolve(ems.take(body)))
    reporter.hold('os', os('1'))
    reporter.flush()
    await idle()
    expect([state.sequence, ems.sequence]).toEqual([41, 41])
  })

  it('tells a section that went back to what the EMS had, after the reply that took the other was lost', async () => {
    const ems = modelEms()
    let lose = false
    const { reporter, idle, timers } = scene((body) => {
      const reply = ems.take(body)
      if (lose) {
        lose = false
        throw new Fault('busy', 'lost')
      }
      return Promise.resolve(reply)
    })
    reporter.hold('os', os('1'))
    reporter.flush()
    await idle()
    lose = true
    reporter.hold('os', os('2'))
    await timers.advance(0)
    expect(ems.held.get('os')?.value).toEqual(os('2'))
    reporter.hold('os', os('1'))
    await idle()
    expect(ems.held.get('os')?.value).toEqual(os('1'))
  })

  it('does not let a section that is refused keep the others back, and sends it again when it changes', async () => {
    const ems = modelEms()
    ems.refuses.add('user')
    const { reporter, idle, troubles } = scene((body) => Promise.resolve(ems.take(body)))
    reporter.hold('os', os('1'))
    reporter.hold('user', user('ada'))
    reporter.hold('agent', agent('1'))
    reporter.flush()
    await idle()
    expect([...ems.held.keys()].sort()).toEqual(['agent', 'os'])
    expect(troubles.all().map(({ kind, sentence }) => [kind, /user/.test(sentence)])).toEqual([['section', true]])
    const before = ems.reports.length
    reporter.flush()
    await idle()
    expect(ems.reports.slice(before).map(({ sections }) => Object.keys(sections))).toEqual([[]])
    ems.refuses.clear()
    reporter.hold('user', user('grace'))
    await idle()
    expect(ems.held.get('user')?.value).toEqual(user('grace'))
    expect(troubles.all()).toEqual([])
    // Together again: one by one was only to find which it is.
    reporter.hold('os', os('2'))
    reporter.hold('agent', agent('2'))
    await idle()
    expect(Object.keys(ems.reports.at(-1)?.sections ?? {})).toEqual(['os', 'agent'])
  })

  it('makes pauses that grow, longer where it is refused than where nobody answers', async () => {
    let code: 'busy' | 'forbidden' = 'busy'
    const { reporter, timers } = scene(() => Promise.reject(new Fault(code, 'no')))
    reporter.hold('os', os('1'))
    reporter.flush()
    await timers.advance(0)
    const pauses: number[] = []
    for (let times = 0; times < 12; times++) {
      pauses.push(timers.waiting()[0] ?? -1)
      await timers.advance(timers.waiting()[0] ?? 0)
    }
    expect(pauses[0]).toBe(188)
    expect(pauses.at(-1)).toBe(45_000)
    code = 'forbidden'
    await timers.advance(45_000)
    expect(timers.waiting()).toEqual([750])
    for (let times = 0; times < 14; times++) await timers.advance(timers.waiting()[0] ?? 0)
    expect(timers.waiting()).toEqual([675_000])
  })

  it('waits as long as it is told to, but not for years', async () => {
    const { reporter, timers } = scene(() => Promise.reject(new Fault('busy', 'no', { retryAfterSeconds: 10_000_000 })))
    reporter.hold('os', os('1'))
    reporter.flush()
    await timers.advance(0)
    expect(timers.waiting()).toEqual([900_000])
  })

  it.each<[string, () => Fault]>([
    ['calls every sequence stale, each time with another', () => new Fault('stale_sequence', 'stale', { sequence: Math.floor(Math.random() * 1e9) })],
    ['names a sequence that can not be', () => new Fault('stale_sequence', 'stale', { sequence: -1 })],
    ['names a sequence that leaves no room', () => new Fault('stale_sequence', 'stale', { sequence: Number.MAX_SAFE_INTEGER })],
  ])('does not run hot against an EMS that %s', async (_what, fault) => {
    let sends = 0
    const { reporter, timers, state } = scene(() => {
      sends++
      return Promise.reject(fault())
    })
    reporter.hold('os', os('1'))
    reporter.flush()
    await timers.advance(1_000)
    expect(sends).toBeLessThan(6)
    expect(state.sequence).toBeGreaterThanOrEqual(0)
    expect(state.sequence).toBeLessThan(1e10)
  })

  it('goes on at once after a fault that was mended, whatever pauses there were before', async () => {
    let [away, expired] = [true, true]
    const ems = modelEms()
    const { reporter, timers } = scene((body) => {
      if (away) throw new Fault('busy', 'away')
      if (expired) throw new Fault('certificate_expired', 'expired')
      return Promise.resolve(ems.take(body))
    }, { onFault: ({ code }) => { expired = code !== 'certificate_expired' && expired; return Promise.resolve(code === 'certificate_expired' ? 'again' : 'later') } })
    reporter.hold('os', os('1'))
    reporter.flush()
    await timers.advance(600_000)
    away = false
    reporter.flush()
    await timers.advance(0)
    expect(ems.held.has('os')).toBe(true)
    expect(timers.waiting()).toEqual([])
  })

  it('takes what a probe found for unknown when it is not in the form of its section', async () => {
    const ems = modelEms()
    const { reporter, idle } = scene((body) => Promise.resolve(ems.take(body)))
    expect(reporter.hold('user', user('a\u0000b'))).toBe(false)
    expect(reporter.hold('user', user('half \ud83d'))).toBe(false)
    expect(reporter.hold('os', os('1'))).toBe(true)
    reporter.flush()
    await idle()
    expect([...ems.held.keys()]).toEqual(['os'])
  })

  it('ends while it waits, and says nothing afterwards', async () => {
    const { reporter, timers, sent } = scene(() => Promise.reject(new Fault('busy', 'no')))
    reporter.hold('os', os('1'))
    reporter.flush()
    await timers.advance(0)
    const before = sent.length
    await reporter.close()
    reporter.flush()
    reporter.hold('os', os('2'))
    await timers.advance(1_000_000)
    expect(sent.length).toBe(before)
    expect(timers.waiting()).toEqual([])
  })

  it('under any losses, doublings and refusals loses no section and invents none', async () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant('hold' as const), section: fc.constantFrom('os' as const, 'agent' as const, 'user' as const), value: fc.integer({ min: 0, max: 1 }) }),
      fc.record({ do: fc.constant('flush' as const) }), fc.record({ do: fc.constant('wait' as const), ms: fc.constantFrom(0, 0, 50, 5_000) }),
      fc.record({ do: fc.constant('restart' as const) }),
    )
    const road = fc.constantFrom('fine', 'fine', 'request-lost', 'reply-lost', 'reply-lost', 'doubled', 'late-double', 'refused', 'busy')
    const make = { os: (n: number) => os(String(n)), agent: (n: number) => agent(String(n)), user: (n: number) => user(`user${n}`) }
    await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 25 }), fc.array(road, { maxLength: 40 }), async (steps, roads) => {
      const ems = modelEms()
      const ever = new Set<string>()
      let late: Body | null = null
      let at = 0
      const send: ReporterOptions['send'] = (body) => {
        const copy = structuredClone(body)
        const how = roads[at++] ?? 'fine'
        if (how === 'request-lost') throw new Fault('busy', 'lost')
        if (how === 'busy') throw new Fault('busy', 'busy')
        if (how === 'refused' && Object.keys(copy.sections).length > 0) throw new Fault('internal', 'no')
        if (late !== null) {
          // A copy that the network kept: it must change nothing that came after it.
          const before = new Map(ems.held)
          try {
            ems.take(late)
          } catch (cause) {
            if (!(cause instanceof Fault)) throw cause
          }
          expect([...ems.held].filter(([name, { hash }]) => before.get(name)?.hash !== hash && before.has(name))).toEqual([])
          late = null
        }
        const reply = ems.take(copy)
        if (how === 'doubled') ems.take(copy)
        if (how === 'late-double') late = copy
        if (how === 'reply-lost') throw new Fault('busy', 'lost')
        return Promise.resolve(reply)
      }
      let kept = 0
      let current = scene(send)
      current.reporter.flush()
      const now = new Map<keyof typeof make, unknown>()
      for (const each of steps) {
        if (each.do === 'hold') {
          const value = make[each.section](each.value)
          ever.add(canonicalize(value) ?? '')
          now.set(each.section, value)
          current.reporter.hold(each.section, value)
        } else if (each.do === 'flush') current.reporter.flush()
        else if (each.do === 'wait') await current.timers.advance(each.ms)
        else {
          // The machine crashes: what was not kept is lost, and probes look anew.
          await current.reporter.close()
          kept = current.state.sequence
          current = scene(send)
          current.state.sequence = kept
          for (const [section, value] of now) current.reporter.hold(section, value as never)
          current.reporter.flush()
        }
      }
      await current.idle()
      for (const [section, value] of now) expect(ems.held.get(section)?.value).toEqual(value)
      for (const { value } of ems.held.values()) expect(ever.has(canonicalize(value) ?? '')).toBe(true)
      await current.reporter.close()
    }), { numRuns: 150 })
  }, 60_000)
})
