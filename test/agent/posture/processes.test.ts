// Running processes, real ones with hostile names among them, and a procfs that does not tell everything.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmod, copyFile, mkdir, readlink, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cpuUsage } from 'node:process'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { listProcesses, processIds, readProcess } from '../../../agent/posture/linux/processes.ts'
import { createProcessWatch } from '../../../agent/posture/linux/watch-processes.ts'
import { runningProcess } from '../../../domain/tagging/conditions/running-process.ts'
import type { AgentConditionType } from '../../../domain/tagging/condition-type.ts'
import { until } from '../../../start/steps.ts'
import { closeAll, onEnd, temporaryDirectory } from '../agent-under-test.ts'

afterEach(closeAll)
const running = (process: ChildProcess): ChildProcess => {
  onEnd(() => new Promise((resolve) => {
    if (process.exitCode !== null || process.signalCode !== null) return resolve(null)
    process.once('close', resolve)
    process.kill('SIGKILL')
  }))
  return process
}
/** A program that sleeps, under a name of the test's choosing. */
async function sleeper(name: string, args: string[] = []): Promise<ChildProcess> {
  const path = join(await temporaryDirectory(), name)
  await copyFile('/bin/sleep', path)
  await chmod(path, 0o755)
  const started = running(spawn(path, ['1000', ...args]))
  await once(started, 'spawn')
  return started
}
const namesOf = (process: ChildProcess) => listProcesses('/proc').filter(({ path }) => path === process.spawnfile).map(({ name }) => name)

/** A procfs of files: `stat` for each process, and what else a test gives. */
interface Files { stat?: string; exe?: string; cmdline?: string }
async function procWith(processes: Record<string, Files>): Promise<string> {
  const root = await temporaryDirectory()
  const all: Record<string, Files> = { 1: { stat: '1 (init) S 0 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0' }, ...processes }
  for (const [pid, { stat, exe, cmdline }] of Object.entries(all)) {
    await mkdir(join(root, 'proc', pid), { recursive: true })
    if (stat !== undefined) await writeFile(join(root, 'proc', pid, 'stat'), stat, 'latin1')
    if (exe !== undefined) await symlink(exe, join(root, 'proc', pid, 'exe'))
    if (cmdline !== undefined) await writeFile(join(root, 'proc', pid, 'cmdline'), cmdline)
  }
  return root
}
const statOf = (name: string, state = 'S', startedAt = '77') => `42 (${name}) ${state} 1 42 42 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 ${startedAt} 0 0`

describe('a process', () => {
  it.each([
    ['brackets', 'a) R 1 (b'], ['a newline and an escape', 'x\n\u001b[31my'], ['a direction override', 'gpj.\u202eexe'], ['spaces', '  a  b  '], ['more than the kernel keeps', 'averyveryverylongname-of-a-program'],
    ['another script', 'антивирус'], ['emoji', '🛡️guard'],
  ])('with %s in its name is found by its name and from where it runs', async (_what, name) => {
    const process = await sleeper(name)
    expect(namesOf(process)).toContain(name)
    expect(readProcess('/proc', String(process.pid))?.path).toBe(process.spawnfile)
  })

  it('with a command line of megabytes costs no more than its beginning', async () => {
    const process = await sleeper('averyveryverylongname-of-a-program', Array.from({ length: 20 }, () => 'x'.repeat(100_000)))
    const begun = cpuUsage()
    for (let times = 0; times < 50; times++) expect(readProcess('/proc', String(process.pid))?.names).toContain('averyveryverylongname-of-a-program')
    const { user, system } = cpuUsage(begun)
    expect((user + system) / 1_000).toBeLessThan(500)
  })

  it('whose program was replaced or taken away still runs from there', async () => {
    const process = await sleeper('doomed')
    await rm(process.spawnfile)
    expect(readProcess('/proc', String(process.pid))).toMatchObject({ path: process.spawnfile, names: ['doomed'] })
  })

  it('that is dead and not collected, or never was, does not run', async () => {
    const root = await procWith({ 42: { stat: statOf('ghost', 'Z') }, 43: {}, 44: { stat: '' }, 45: { stat: 'nonsense' } })
    expect(['42', '43', '44', '45', '46'].map((pid) => readProcess(join(root, 'proc'), pid))).toEqual([null, null, null, null, null])
    expect(listProcesses(join(root, 'proc')).map(({ name }) => name)).toEqual(['init'])
  })

  it('claims by its command line no name that it does not begin with', async () => {
    const root = await procWith({ 42: { stat: statOf('sallyport-guard'), cmdline: 'sshd\0sallyport-guardian\0' }, 43: { stat: statOf('sallyport-guard'), cmdline: 'nothing\0of\0the\0kind' } })
    expect(readProcess(join(root, 'proc'), '42')?.names).toEqual(['sallyport-guardian'])
    expect(readProcess(join(root, 'proc'), '43')?.names).toEqual(['sallyport-guard'])
  })

  it('that can not be looked at makes the answer unknown, never "does not run"', async () => {
    // No descriptor is left, or the system hides it: here, something that can not be read as a file.
    const root = await procWith({})
    await mkdir(join(root, 'proc', '42', 'stat'), { recursive: true })
    expect(() => listProcesses(join(root, 'proc'))).toThrow(/EISDIR/)
    const condition = runningProcess as AgentConditionType
    await expect(Promise.resolve().then(() => condition.observe({ name: 'x' }, { fileFacts: () => Promise.resolve('unreadable'), processes: () => Promise.resolve().then(() => listProcesses(join(root, 'proc'))) }, 0))).rejects.toThrow()
  })

  it('of others being hidden (hidepid) is an error too', async () => {
    const root = await procWith({ 42: { stat: statOf('mine') } })
    await rm(join(root, 'proc', '1'), { recursive: true })
    expect(() => processIds(join(root, 'proc'))).toThrow(/hidden/)
  })
})

describe('the watch on processes', () => {
  // Its looks come when a test lets time pass: what has happened by then is noticed within a second, however busy the machine is.
  beforeEach(() => { vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] }) })
  afterEach(() => { vi.useRealTimers() })
  const SECOND = 1_000
  const watching = (root: string, names: string[]) => {
    const changes: string[] = []
    const watch = createProcessWatch({ root, onChange: (name) => changes.push(name) })
    onEnd(() => Promise.resolve(watch.close()))
    watch.retarget(names)
    const within = (ms: number) => {
      changes.length = 0
      vi.advanceTimersByTime(ms)
      return new Set(changes)
    }
    return { changes, watch, within }
  }
  const killed = async (process: ChildProcess) => {
    const closed = once(process, 'close')
    process.kill('SIGKILL')
    await closed
  }

  it('notices within a second that a real process starts, ends, and becomes another program', async () => {
    const { within } = watching('/', ['guarded', 'other'])
    const process = await sleeper('guarded')
    expect(within(SECOND)).toEqual(new Set(['guarded']))
    await killed(process)
    expect(within(SECOND)).toEqual(new Set(['guarded']))
    const other = await sleeper('other')
    await killed(other)
    // exec keeps the process: a shell that has long been there becomes the watched program.
    const shell = running(spawn('/bin/sh', ['-c', `read line; exec "${other.spawnfile}" 1000`]))
    await once(shell, 'spawn')
    within(2 * SECOND)
    shell.stdin?.write('go\n')
    await until('the exec', async () => (await readlink(`/proc/${shell.pid}/exe`) === other.spawnfile ? true : null))
    expect(within(SECOND)).toEqual(new Set(['other']))
  })

  it('says nothing of what is not watched, and looks at nothing when nothing is', async () => {
    const { watch, within } = watching('/', ['guarded'])
    await sleeper('somebody')
    const process = await sleeper('guarded')
    expect(within(SECOND)).toEqual(new Set(['guarded']))
    watch.retarget([])
    await killed(process)
    expect(within(SECOND)).toEqual(new Set())
    expect(vi.getTimerCount()).toBe(0)
  })

  it('survives processes that vanish while it looks, and a procfs that can not be read', async () => {
    const root = await procWith({ 42: { stat: statOf('guarded') } })
    const { changes, within } = watching(root, ['guarded'])
    await rm(join(root, 'proc', '42'), { recursive: true })
    expect(within(SECOND)).toEqual(new Set(['guarded']))
    await rm(join(root, 'proc'), { recursive: true })
    within(SECOND)
    // Blind, and seeing again: told once each.
    expect(changes).toEqual(['guarded'])
    await mkdir(join(root, 'proc', '1'), { recursive: true })
    within(SECOND)
    expect(changes).toEqual(['guarded'])
  })
})
