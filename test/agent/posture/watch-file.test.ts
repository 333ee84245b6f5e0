// The watch on a file: a change is noticed when it happens, however the path comes and goes.
import { appendFile, chmod, mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { watchFile } from '../../../agent/posture/watch-file.ts'
import { createWatch } from '../../../agent/posture/watch.ts'
import { systemTimers } from '../../../node/timers.ts'
import { until } from '../../../start/steps.ts'
import { closeAll, onEnd, temporaryDirectory } from '../agent-under-test.ts'
import { manualTimers } from '../manual-timers.ts'

afterEach(closeAll)

describe('the watch on a file', () => {
  interface Noticed { count: number; pausedMs: number }
  /** Its pauses are short here, and counted as long as they were meant. */
  function watching(path: string): Noticed {
    const noticed: Noticed = { count: 0, pausedMs: 0 }
    const watch = watchFile(path, () => { noticed.count++ }, { after: (delayMs, action) => systemTimers.after(Math.min(delayMs, 20), () => {
      noticed.pausedMs += delayMs
      action()
    }) })
    onEnd(() => Promise.resolve(watch.close()))
    return noticed
  }
  /** Does something and waits until it is noticed, for which the watch pauses for less than a second. */
  async function notices(noticed: Noticed, change: () => Promise<unknown>): Promise<void> {
    const before = noticed.count
    noticed.pausedMs = 0
    await change()
    await until('the change', () => Promise.resolve(noticed.count > before ? true : null), 30_000, 5)
    expect(noticed.pausedMs).toBeLessThan(1_000)
  }

  it('notices that it appears, is written, replaced, renamed and removed, each within a second', async () => {
    const path = join(await temporaryDirectory(), 'watched')
    const noticed = watching(path)
    await notices(noticed, () => writeFile(path, 'a'))
    await notices(noticed, () => appendFile(path, 'b'))
    await writeFile(`${path}.new`, 'c')
    await notices(noticed, () => rename(`${path}.new`, path))
    await notices(noticed, () => appendFile(path, 'd'))
    await notices(noticed, () => rename(path, `${path}.old`))
    await notices(noticed, () => rename(`${path}.old`, path))
    await notices(noticed, () => rm(path))
    await notices(noticed, () => writeFile(path, 'e'))
  })

  it('notices it below directories that come and go', async () => {
    const directory = await temporaryDirectory()
    const path = join(directory, 'a/b/watched')
    const noticed = watching(path)
    await notices(noticed, () => mkdir(join(directory, 'a')))
    await notices(noticed, () => mkdir(join(directory, 'a/b')))
    await notices(noticed, () => writeFile(path, '1'))
    await notices(noticed, () => rename(join(directory, 'a/b'), join(directory, 'a/c')))
    await mkdir(join(directory, 'next'))
    await writeFile(join(directory, 'next/watched'), '2')
    await notices(noticed, () => rename(join(directory, 'next'), join(directory, 'a/b')))
    await notices(noticed, () => appendFile(path, '3'))
    await notices(noticed, () => rm(join(directory, 'a'), { recursive: true }))
    await notices(noticed, () => mkdir(join(directory, 'a/b'), { recursive: true }))
    await notices(noticed, () => writeFile(path, '4'))
  })

  it('notices what a symbolic link leads to, and when any link on the way is turned', async () => {
    const directory = await temporaryDirectory()
    for (const name of ['one', 'two']) {
      await mkdir(join(directory, name))
      await writeFile(join(directory, name, 'file'), name)
    }
    await symlink('one', join(directory, 'current'))
    await symlink(join(directory, 'current/file'), join(directory, 'watched'))
    const noticed = watching(join(directory, 'watched'))
    await notices(noticed, () => appendFile(join(directory, 'one/file'), '!'))
    await symlink('two', join(directory, 'turned'))
    await notices(noticed, () => rename(join(directory, 'turned'), join(directory, 'current')))
    await notices(noticed, () => appendFile(join(directory, 'two/file'), '!'))
  })

  it('with links in a circle, or no rights, is tried again, ever more seldom', async () => {
    const directory = await temporaryDirectory()
    await symlink('b', join(directory, 'a'))
    await symlink('a', join(directory, 'b'))
    let mended = 0
    const trying = watchFile(join(directory, 'a'), () => { mended++ }, systemTimers)
    onEnd(() => Promise.resolve(trying.close()))
    await rm(join(directory, 'a'))
    await writeFile(join(directory, 'a'), '')
    await until('the change', () => Promise.resolve(mended > 0 ? true : null), 30_000, 5)
    const timers = manualTimers()
    let told = 0
    // Under a file there is no directory to watch, and a null byte is no path at all.
    const watch = watchFile('/proc/self/\u0000', () => { told++ }, timers)
    onEnd(() => Promise.resolve(watch.close()))
    const waits: number[] = []
    for (let times = 0; times < 9; times++) {
      waits.push(timers.waiting()[0] ?? -1)
      await timers.advance(waits.at(-1) ?? 0)
    }
    expect(waits.slice(0, 4)).toEqual([500, 1_000, 2_000, 4_000])
    expect(waits.at(-1)).toBe(30_000)
    expect(told).toBeLessThanOrEqual(1)
  })

  it('says nothing of its neighbours, and nothing when it has been closed', async () => {
    const directory = await temporaryDirectory()
    const changes: string[] = []
    const watch = createWatch({ root: '/', processes: false, timers: systemTimers, onChange: ({ name }) => changes.push(name) })
    onEnd(() => Promise.resolve(watch.close()))
    const [first, second] = [join(directory, 'first'), join(directory, 'second')]
    watch.retarget({ files: [first, second], processes: [] })
    await writeFile(join(directory, 'neighbour'), '')
    await writeFile(first, '')
    await until('the first', () => Promise.resolve(changes.length > 0 ? true : null))
    watch.retarget({ files: [second], processes: [] })
    changes.length = 0
    await appendFile(first, 'x')
    await writeFile(second, '')
    await chmod(second, 0o600)
    await until('the second', () => Promise.resolve(changes.length > 0 ? true : null))
    expect(new Set(changes)).toEqual(new Set([second]))
  })
})
