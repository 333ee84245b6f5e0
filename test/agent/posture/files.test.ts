// Files that conditions ask about: what is seen of them, and how the answers are made of it.
import { execFileSync } from 'node:child_process'
import { rename, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { createAnswers } from '../../../agent/posture/answers.ts'
import { createDevice } from '../../../agent/posture/device.ts'
import { systemTimers } from '../../../node/timers.ts'
import type { Device } from '../../../domain/tagging/device.ts'
import type { AgentRules } from '../../../protocol/rules.ts'
import type { Answers } from '../../../agent/telemetry/telemetry-state.ts'
import { closeAll, temporaryDirectory } from '../agent-under-test.ts'
import { manualTimers } from '../manual-timers.ts'

afterEach(closeAll)
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')
const device = (now = Date.now) => createDevice({ root: '/', now, timers: systemTimers })
async function hashOf(seen: Device, path: string): Promise<string | null> {
  const facts = await seen.fileFacts(path)
  if (facts === 'unreadable' || !facts.exists) throw new Error('it is not there')
  return await facts.sha256()
}
/** ms of computing since then, whatever else the machine does meanwhile. */
const spentMs = (begun: NodeJS.CpuUsage): number => {
  const { user, system } = process.cpuUsage(begun)
  return (user + system) / 1_000
}
const key = (n: number) => `ck_${n.toString(16).padStart(32, '0')}`
const rulesOf = (conditions: { type: string; [name: string]: unknown }[]): AgentRules => ({ revision: 1, conditions: conditions.map((condition, n) => ({ key: key(n), condition: { negate: false, ...condition } })) })

describe('a file', () => {
  it('is there, is not there, or can not be looked at', async () => {
    const directory = await temporaryDirectory()
    await writeFile(join(directory, 'here'), 'x')
    await symlink(join(directory, 'nowhere'), join(directory, 'dangling'))
    await symlink(join(directory, 'loop'), join(directory, 'loop'))
    const seen = device()
    const exists = async (path: string) => {
      const facts = await seen.fileFacts(path)
      return facts === 'unreadable' ? facts : facts.exists
    }
    expect(await Promise.all(['here', '.', 'gone', 'here/below', 'dangling', 'loop', 'x'.repeat(300)].map((name) => exists(join(directory, name))))).toEqual([true, true, false, false, false, 'unreadable', 'unreadable'])
    // Of another system: taken as relative it would name something here.
    expect(await Promise.all(['C:\\Windows\\win.ini', 'package.json', ''].map(exists))).toEqual(['unreadable', 'unreadable', 'unreadable'])
    for (const odd of ['%2e%2e', '$(id)', '`id`', ' leading and trailing ', '-rf', '🛡️', '\\', "'", '"', '*']) {
      await writeFile(join(directory, odd), odd)
      expect(await hashOf(seen, join(directory, odd))).toBe(sha256(odd))
    }
  })

  it('is hashed once as long as it is the same, and anew after any write, however quick', async () => {
    const path = join(await temporaryDirectory(), 'f')
    let ms = Date.now()
    const seen = device(() => ms)
    await writeFile(path, 'one')
    expect(await hashOf(seen, path)).toBe(sha256('one'))
    await writeFile(path, 'two') // within the same tick of the file system's clock, perhaps
    expect(await hashOf(seen, path)).toBe(sha256('two'))
    ms += 10_000
    expect(await hashOf(seen, path)).toBe(sha256('two'))
    await writeFile(`${path}.new`, 'six')
    await rename(`${path}.new`, path)
    expect(await hashOf(seen, path)).toBe(sha256('six'))
  })

  it('that is a pipe, a device, a directory or a giant has no hash, and nobody waits for it', async () => {
    const directory = await temporaryDirectory()
    const seen = device()
    execFileSync('mkfifo', [join(directory, 'pipe')])
    await writeFile(join(directory, 'giant'), '')
    await truncate(join(directory, 'giant'), 2 * 1024 ** 3)
    expect(await Promise.all([join(directory, 'pipe'), '/dev/zero', directory, join(directory, 'giant')].map((path) => hashOf(seen, path)))).toEqual([null, null, null, null])
  })

  it('that became a pipe after it was looked at is not opened for reading until somebody writes', async () => {
    const path = join(await temporaryDirectory(), 'f')
    await writeFile(path, 'x')
    const facts = await device().fileFacts(path)
    await rm(path)
    execFileSync('mkfifo', [path])
    if (facts === 'unreadable' || !facts.exists) throw new Error('it is not there')
    expect(await facts.sha256()).toBeNull()
  })

  it('that was replaced between look and hash has no hash then', async () => {
    const path = join(await temporaryDirectory(), 'f')
    await writeFile(path, 'x')
    const facts = await device().fileFacts(path)
    await writeFile(path, 'y!')
    if (facts === 'unreadable' || !facts.exists) throw new Error('it is not there')
    expect(await facts.sha256()).toBeNull()
  })
})

describe('answers', () => {
  async function answering(rules: AgentRules, seen: Device = device(), timers = systemTimers) {
    let kept: Answers = {}
    const rounds: { answers: Answers; changedAt: number }[] = []
    let now = 1_000
    const ask = createAnswers({ device: seen, rules: () => rules, previous: () => kept, processes: true, now: () => now, timers, onAnswers: (answers, changedAt) => { kept = answers; rounds.push({ answers, changedAt }) } })
    return { ask, rounds, pass: (ms: number) => { now += ms } }
  }

  it('are unknown for a condition that this agent does not know, or whose parameters are odd', async () => {
    const { ask, rounds } = await answering(rulesOf([{ type: 'quantum-state' }, { type: 'file' }, { type: 'file', path: 'relative' }, { type: 'file', path: '/x', exists: 'yes' }, { type: 'os-version', comparator: '>=', version: '1' }, { type: 'file', path: '/' }]))
    await ask()
    expect(Object.values(rounds[0]?.answers ?? {}).map(({ value }) => value)).toEqual(['unknown', 'unknown', 'unknown', 'unknown', 'unknown', 'true'])
  })

  it('to a thousand conditions come in one round, quickly', async () => {
    const { ask, rounds } = await answering(rulesOf(Array.from({ length: 1_000 }, (_, n) => (n % 2 === 0 ? { type: 'file', path: `/nowhere/${n}` } : { type: 'running-process', name: `nobody-${n}` }))))
    const begun = process.cpuUsage()
    await ask()
    expect(spentMs(begun)).toBeLessThan(2_000)
    expect(new Set(Object.values(rounds[0]?.answers ?? {}).map(({ value }) => value))).toEqual(new Set(['false']))
  })

  it('keep the time of the last change', async () => {
    const path = join(await temporaryDirectory(), 'f')
    const { ask, rounds, pass } = await answering(rulesOf([{ type: 'file', path }]))
    await ask()
    pass(500)
    await ask()
    await writeFile(path, '')
    pass(500)
    await ask(1_900)
    expect(rounds.map(({ answers, changedAt }) => [answers[key(0)]?.value, answers[key(0)]?.at, changedAt])).toEqual([['false', 1_000, 1_000], ['false', 1_000, 1_500], ['true', 2_000, 1_900]])
  })

  it('tell of a change during a round by another round, and rest in between', async () => {
    const timers = manualTimers()
    let looks = 0
    const gates: (() => void)[] = []
    const seen: Device = { processes: () => Promise.resolve([]), fileFacts: () => new Promise((resolve) => { looks++; gates.push(() => resolve({ exists: false })) }) }
    const { ask, rounds } = await answering(rulesOf([{ type: 'file', path: '/x' }]), seen, timers)
    const first = ask(1)
    await timers.advance(0)
    const [second, third] = [ask(7), ask(3)]
    expect(third).toBe(second)
    await timers.advance(0)
    expect(looks).toBe(1)
    gates[0]?.()
    await first
    await timers.advance(0)
    expect([looks, timers.waiting().length]).toEqual([1, 1])
    await timers.advance(1_000)
    gates[1]?.()
    await second
    expect(rounds.map(({ changedAt }) => changedAt)).toEqual([1, 3])
  })

  it('are given for all others when one look never comes back, and that one is unknown', async () => {
    const timers = manualTimers()
    let asked = 0
    // Looked at beforehand: an answer that takes its time would be given up too when time passes here.
    const facts = await stat('/', { bigint: true })
    const { promise: back, resolve: comeBack } = Promise.withResolvers<typeof facts>()
    let mounted = false
    const seen = createDevice({ root: '/', now: Date.now, timers, statFile: (path) => {
      if (path !== '/dead/mount' || mounted) return Promise.resolve(facts)
      asked++
      return back // as on a network mount whose server is gone
    } })
    const { ask, rounds } = await answering(rulesOf([{ type: 'file', path: '/dead/mount' }, { type: 'file', path: '/' }]), seen, timers)
    const told = () => Object.values(rounds.at(-1)?.answers ?? {}).map(({ value, seen: what }) => [value, what])
    const first = ask()
    await timers.advance(0)
    await timers.advance(5_000)
    await first
    expect(told()).toEqual([['unknown', 'can not be looked at: no answer within 5 s'], ['true', 'exists']])
    // The next round neither waits nor asks there again: each look that hangs holds a thread.
    const second = ask()
    await timers.advance(60)
    await timers.advance(5_000)
    await second
    expect(told()[0]).toEqual(['unknown', 'can not be looked at: the last look has not come back yet'])
    expect(asked).toBe(1)
    mounted = true
    comeBack(facts)
    await timers.advance(0)
    const third = ask()
    await timers.advance(60)
    await timers.advance(5_000)
    await third
    expect(told()[0]).toEqual(['true', 'exists'])
  })
})
