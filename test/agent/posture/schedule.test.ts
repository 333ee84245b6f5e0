// Probes by their cadence: one run at a time, none lost, none that holds up the others.
import { describe, expect, it } from 'vitest'
import { probe, type Cadence, type Probe } from '../../../agent/posture/probe.ts'
import { scheduleProbes } from '../../../agent/posture/schedule.ts'
import { silentLog } from '../../../node/logging.ts'
import { manualTimers } from '../manual-timers.ts'

interface Gated { readonly probe: Probe; runs: number; /** Ends the run under way. */ end(): void; value: string; fails: boolean }
function gated(section: 'user' | 'os' | 'software', cadence: Cadence, open = false, slow = false): Gated {
  const gates: (() => void)[] = []
  const made: Gated = {
    runs: 0, value: 'one', fails: false, end: () => gates.shift()?.(),
    probe: probe({ section: 'user', cadence, slow, async collect() {
      made.runs++
      const seen = made.value
      if (!open) await new Promise<void>((resolve) => gates.push(resolve))
      if (made.fails) throw new Error('an odd machine')
      return { account: seen }
    } }),
  }
  return Object.assign(made, { probe: { ...made.probe, section } })
}

function scheduled(probes: Gated[], everySeconds: (cadence: Cadence) => number = () => 60) {
  const timers = manualTimers()
  const found: [string, unknown][] = []
  let now = 0
  const advance = async (ms: number) => {
    now += ms
    await timers.advance(ms)
  }
  const schedule = scheduleProbes({ probes: probes.map(({ probe: each }) => each), everySeconds, onFound: (section, value) => found.push([section, (value as { account?: string } | null)?.account ?? null]), timers, clock: () => now, log: silentLog(), onDefect: (cause) => { throw cause } })
  return { schedule, found, advance, timers }
}

describe('probes', () => {
  it('look again after their cadence, counted from the end of the last look', async () => {
    const quick = gated('os', 'network', true)
    const { schedule, advance } = scheduled([quick], () => 5)
    await schedule.look()
    await advance(4_999)
    expect(quick.runs).toBe(1)
    await advance(1)
    expect(quick.runs).toBe(2)
    await schedule.close()
    await advance(60_000)
    expect(quick.runs).toBe(2)
  })

  it('that are slow hold up no look, and those that fail are unknown and silence nobody', async () => {
    const [slow, bad, good] = [gated('software', 'inventory', false, true), gated('os', 'security', true), gated('user', 'security', true)]
    bad.fails = true
    const { schedule, found } = scheduled([slow, bad, good])
    await schedule.look()
    expect(found).toEqual([['os', null], ['user', 'one']])
    slow.end()
    await schedule.look('user')
    expect(found).toContainEqual(['software', 'one'])
  })

  it('that are slow are not asked again within a minute, whoever asks, unless they are asked for by name', async () => {
    const slow = gated('software', 'inventory', true, true)
    const { schedule, advance } = scheduled([slow], () => 3_600)
    for (let times = 0; times < 5; times++) {
      await schedule.look()
      await advance(5_000)
    }
    expect(slow.runs).toBe(1)
    await schedule.look('software')
    await advance(0)
    expect(slow.runs).toBe(2)
    await advance(60_000)
    await schedule.look()
    expect(slow.runs).toBe(3)
  })

  it('asked during a look run once more, for what changed after it had read', async () => {
    const user = gated('user', 'inventory')
    const { schedule, found } = scheduled([user])
    const first = schedule.look('user')
    user.value = 'two'
    const [second, third] = [schedule.look('user'), schedule.look('user')]
    user.end()
    await first
    await Promise.resolve()
    expect(found).toEqual([['user', 'one']])
    while (user.runs < 2) await Promise.resolve()
    user.end()
    await Promise.all([second, third])
    expect(found).toEqual([['user', 'one'], ['user', 'two']])
    expect(user.runs).toBe(2)
  })

  it('follow a new cadence at once, not after the old one', async () => {
    const user = gated('user', 'inventory', true)
    let seconds = 86_400
    const { schedule, advance } = scheduled([user], () => seconds)
    await schedule.look()
    await advance(120_000)
    seconds = 60
    schedule.rearm()
    await advance(0)
    expect(user.runs).toBe(2)
    seconds = 600
    schedule.rearm()
    await advance(599_000)
    expect(user.runs).toBe(2)
    await advance(1_000)
    expect(user.runs).toBe(3)
  })

  it('end when the agent does: a look that is under way reports nothing any more', async () => {
    const user = gated('user', 'inventory')
    const { schedule, found, timers } = scheduled([user])
    const looking = schedule.look()
    const closing = schedule.close()
    user.end()
    await Promise.all([looking, closing])
    expect(found).toEqual([])
    expect(timers.waiting()).toEqual([])
    await schedule.look()
    expect(user.runs).toBe(1)
  })

  it('that hang are given up: unknown, waited for by nobody, and never joined by a second look', async () => {
    const [stuck, good] = [gated('user', 'security'), gated('os', 'security', true)]
    const { schedule, found, advance } = scheduled([stuck, good])
    const looking = schedule.look()
    await advance(59_999)
    expect(found.filter(([section]) => section === 'user')).toEqual([])
    await advance(1)
    await looking
    expect(found.filter(([section]) => section === 'user')).toEqual([['user', null]])
    for (let minute = 0; minute < 6; minute++) await advance(60_000)
    await schedule.look()
    expect(stuck.runs).toBe(1)
    expect(good.runs).toBeGreaterThan(5)
    // It comes back: what it saw is old, and it is looked at anew.
    stuck.end()
    await advance(0)
    expect(stuck.runs).toBe(2)
    stuck.end()
    await advance(0)
    expect(found.at(-1)).toEqual(['user', 'one'])
    await schedule.close()
  })
})
