// The reporter, case by case: what it sends, repeats, resumes, holds back, and how long it waits.
import { describe, expect, it } from 'vitest'
import { Fault } from '../../../protocol/faults.ts'
import { agent, modelEms, os, scene, user } from './reporter-under-test.ts'

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

  it('tells once that a section is not known any more, and tells it anew when it is', async () => {
    const ems = modelEms()
    const { reporter, idle } = scene((body) => Promise.resolve(ems.take(body)))
    reporter.hold('os', os('1'))
    reporter.hold('user', user('ada'))
    reporter.flush()
    await idle()
    reporter.hold('user', null)
    await idle()
    reporter.hold('user', null)
    reporter.flush()
    await idle()
    reporter.hold('user', user('ada'))
    await idle()
    expect(ems.reports.slice(2).map(({ sequence, sections, unknown, hashes }) => [sequence, Object.keys(sections), unknown, Object.keys(hashes)])).toEqual([
      [2, [], ['user'], ['os']], [2, [], undefined, ['os']], [3, ['user'], undefined, ['os', 'user']],
    ])
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
})
