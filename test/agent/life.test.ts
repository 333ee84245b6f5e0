// How an agent ends: everything undone, the last first, once, whatever goes wrong with any of it.
import { describe, expect, it } from 'vitest'
import { createLife, type Ended } from '../../agent/life.ts'
import { createLog } from '../../node/logging.ts'
import { manualTimers } from './manual-timers.ts'

function living() {
  const [done, lines]: [string[], string[]] = [[], []]
  const timers = manualTimers()
  const life = createLife({ release: () => { done.push('release') }, timers, log: createLog({ name: 'x', destination: { write: (line: string) => { lines.push((JSON.parse(line) as { event: string }).event) } } }) })
  const step = (name: string) => () => { done.push(name) }
  return { life, done, lines, timers, step }
}

describe('an ending', () => {
  it('undoes what was begun, the last first, and gives the lock back last', async () => {
    const { life, done, step } = living()
    for (const name of ['first', 'second', 'third']) life.begun(step(name))
    expect(life.isEnding()).toBe(false)
    await life.finish('deregistered', { before: () => Promise.resolve(step('before')()), after: () => Promise.resolve(step('after')()) })
    expect(done).toEqual(['before', 'third', 'second', 'first', 'after', 'release'])
    expect(await life.ended).toBe('deregistered')
  })
  it('happens once, as it was first asked for', async () => {
    const { life, done } = living()
    await Promise.all([life.finish('closed'), life.finish('deregistered', { after: () => Promise.reject(new Error('never')) }), life.finish({ defect: new Error('late') })])
    expect([await life.ended, done]).toEqual(['closed', ['release']])
  })
  it('is not held up by a part that fails: the rest is undone, and the failure is told', async () => {
    const { life, done, step, lines } = living()
    life.begun(step('first'))
    life.begun(() => Promise.reject(new Error('stuck')))
    life.begun(() => { throw new Error('broken') })
    await life.finish('closed')
    expect(done).toEqual(['first', 'release'])
    await expect(life.ended).rejects.toThrow('broken')
    expect(lines).toEqual(['defect', 'defect'])
  })
  it('is not held up by a part that never ends', async () => {
    const { life, done, step, lines, timers } = living()
    life.begun(step('first'))
    life.begun(() => new Promise(() => undefined))
    const finishing = life.finish('deregistered', { after: () => Promise.resolve(step('after')()) })
    await timers.advance(0)
    expect(done).toEqual([])
    await timers.advance(10_000)
    await finishing
    expect([done, lines, await life.ended]).toEqual([['first', 'after', 'release'], ['not-closed'], 'deregistered' satisfies Ended])
  })
  it('by a defect tells of it', async () => {
    const { life, lines } = living()
    await life.finish({ defect: new Error('a bug') })
    await expect(life.ended).rejects.toThrow('a bug')
    expect(lines).toEqual(['defect'])
  })
})
