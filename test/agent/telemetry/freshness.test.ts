// What is unchanged and wanted fresh is looked at again in time and confirmed, with nothing else sent; without any demand nothing is.
import { describe, expect, it } from 'vitest'
import { keepFresh } from '../../../agent/telemetry/keep-fresh.ts'
import type { Demands } from '../../../domain/tagging/demand.ts'
import { Fault } from '../../../protocol/faults.ts'
import { manualTimers } from '../manual-timers.ts'
import { agent, modelEms, os, scene, user } from './reporter-under-test.ts'

const minute = 60_000

/** A reporter that has told all, with a clock in the test's hand. */
async function told(demands: Demands) {
  const ems = modelEms()
  let at = 10 * minute
  let lose = 0
  const made = scene((body) => {
    const reply = ems.take(body)
    if (lose-- > 0) throw new Fault('busy', 'lost')
    return Promise.resolve(reply)
  }, { now: () => at, demands: () => demands })
  const { reporter, idle } = made
  reporter.hold('os', os('1'))
  reporter.hold('user', user('ada'))
  reporter.hold('agent', agent('1'))
  reporter.flush()
  await idle()
  const before = ems.reports.length
  return {
    ...made, ems, since: () => ems.reports.slice(before), loseNext: () => { lose = 1 },
    async look(ms: number, ...sections: readonly ('os' | 'user' | 'agent')[]) {
      at += ms
      for (const section of sections) reporter.hold(section, section === 'os' ? os('1') : section === 'user' ? user('ada') : agent('1'))
      await idle()
    },
  }
}

describe('a look that finds a section unchanged', () => {
  it('is confirmed by its hash when four tenths of the time are over, with what else is nearly due; nothing takes a sequence', async () => {
    const { look, since, ems, reporter } = await told({ os: 60, user: 90 })
    await look(20_000, 'os', 'user', 'agent')
    expect(since()).toEqual([])
    await look(5_000, 'os', 'user', 'agent')
    expect(since().map(({ sequence, sections, confirmed }) => ({ sequence, sections, confirmed }))).toEqual([{ sequence: 1, sections: {}, confirmed: { os: 10 * minute + 25_000, user: 10 * minute + 25_000 } }])
    expect(since()[0]?.hashes).toHaveProperty('os')
    expect([ems.sequence, reporter.knownAt('os')]).toEqual([1, 10 * minute + 25_000])
  })
  it('is not told without a demand, nor of what the EMS does not hold so', async () => {
    const { look, since, reporter, idle } = await told({ agent: 60 })
    await look(3_600_000, 'os', 'user')
    expect(since()).toEqual([])
    reporter.hold('agent', agent('2'))
    await idle()
    expect(since().map(({ sections, confirmed }) => [Object.keys(sections), confirmed])).toEqual([[['agent'], undefined]])
  })
  it('is told again when the reply was lost, once', async () => {
    const { look, since, loseNext } = await told({ os: 60 })
    loseNext()
    await look(30_000, 'os')
    expect(since().map(({ confirmed }) => confirmed)).toEqual([{ os: 10 * minute + 30_000 }, { os: 10 * minute + 30_000 }])
  })
  it('is confirmed at once after a restart, when nobody here knows since when the EMS has it', async () => {
    const before = await told({ os: 60 })
    const { reporter, idle } = scene((body) => Promise.resolve(before.ems.take(body)), { demands: () => ({ os: 60 }), state: { sequence: () => 1, answers: () => ({}), keep: () => Promise.resolve() } })
    reporter.hold('os', os('1'), undefined, 900)
    reporter.flush()
    await idle()
    expect(before.since().map(({ confirmed }) => confirmed)).toEqual([undefined, { os: 900 }])
  })
})

describe('sections that are wanted fresh', () => {
  /** `learns`: the EMS is told by each look. */
  async function watched(demands: Demands, { learns = true, random = 0.5, forMs = 10 * minute } = {}) {
    const timers = manualTimers()
    let [at, shift] = [0, 0]
    const now = () => at + shift
    const known = new Map<string, number>([['os', 0]])
    const looks: [string, number][] = []
    const kept = keepFresh({
      demands: () => demands, knownAt: (section) => known.get(section) ?? null, now, timers, random: () => random, onDefect: (cause) => { throw cause },
      look(section) {
        looks.push([section, at])
        if (learns) known.set(section, now())
        return Promise.resolve()
      },
    })
    const pass = async (ms: number) => {
      for (const end = at + ms; at < end;) {
        at += 500
        await timers.advance(500)
      }
    }
    await pass(forMs)
    return { looks, kept, timers, pass, setClock: (ms: number) => { shift += ms } }
  }
  it('are looked at once in half of that time at most, whatever the jitter', async () => {
    for (const random of [0, 0.999]) {
      const { looks } = await watched({ os: 60 }, { random, forMs: 5 * minute })
      const gaps = looks.map(([, at], index) => at - (looks[index - 1]?.[1] ?? 0))
      expect([Math.max(...gaps) <= 30_500, Math.min(...gaps) >= 23_500]).toEqual([true, true])
    }
  })
  it('are looked at soon where nobody knows how old they are, and not again and again when the EMS is away', async () => {
    const { looks } = await watched({ user: 120 }, { learns: false, forMs: 2 * minute })
    expect([(looks[0]?.[1] ?? Infinity) <= 6_000, looks.length]).toEqual([true, 4])
  })
  it('cost nothing where there are none, and none after the end', async () => {
    const { looks, timers } = await watched({}, { forMs: minute })
    expect([looks, timers.waiting()]).toEqual([[], []])
    const more = await watched({ os: 60 }, { forMs: minute })
    more.kept.close()
    expect(more.timers.waiting()).toEqual([])
  })
  it('are looked at in time after the clock was set back', async () => {
    const { looks, pass, setClock } = await watched({ os: 60 }, { forMs: minute })
    const before = looks.length
    setClock(-86_400_000)
    await pass(minute)
    expect(looks.length).toBeGreaterThan(before)
  })
})
