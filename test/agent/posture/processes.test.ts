// Running processes, real ones with hostile names among them, and a procfs that does not tell everything.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmod, copyFile, mkdir, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
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
    const begun = performance.now()
    for (let times = 0; times < 50; times++) expect(readProcess('/proc', String(process.pid))?.names).toContain('averyveryverylongname-of-a-program')
    expect(performance.now() - begun).toBeLessThan(500)
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
  const watching = (root: string, names: string[]) => {
    const changes: { name: string; at: number }[] = []
    const watch = createProcessWatch({ root, onChange: (name) => changes.push({ name, at: performance.now() }) })
    onEnd(() => Promise.resolve(watch.close()))
    watch.retarget(names)
    return { changes, watch }
  }

  it('notices within a second that a real process starts, ends, and becomes another program', async () => {
    const { changes } = watching('/', ['guarded', 'other'])
    const started = performance.now()
    const process = await sleeper('guarded')
    const start = await until('the start', () => Promise.resolve(changes.find(({ name }) => name === 'guarded') ?? null))
    expect(start.at - started).toBeLessThan(1_000)
    changes.length = 0
    const ended = performance.now()
    process.kill('SIGKILL')
    const end = await until('the end', () => Promise.resolve(changes.find(({ name }) => name === 'guarded') ?? null))
    expect(end.at - ended).toBeLessThan(1_000)
    const other = await sleeper('other')
    other.kill('SIGKILL')
    changes.length = 0
    // exec keeps the process: a shell that has long been there becomes the watched program.
    const shell = running(spawn('/bin/sh', ['-c', `read line; exec "${other.spawnfile}" 1000`]))
    await once(shell, 'spawn')
    const long = performance.now()
    await until('the shell to be an old process', () => Promise.resolve(performance.now() - long > 1_200 ? true : null))
    changes.length = 0
    const execed = performance.now()
    shell.stdin?.write('go\n')
    const exec = await until('the exec', () => Promise.resolve(changes.find(({ name }) => name === 'other') ?? null))
    expect(exec.at - execed).toBeLessThan(1_000)
  })

  it('says nothing of what is not watched, and looks at nothing when nothing is', async () => {
    const { changes, watch } = watching('/', ['guarded'])
    await sleeper('somebody')
    const process = await sleeper('guarded')
    await until('the one that is', () => Promise.resolve(changes.length > 0 ? true : null))
    expect(new Set(changes.map(({ name }) => name))).toEqual(new Set(['guarded']))
    watch.retarget([])
    changes.length = 0
    process.kill('SIGKILL')
    await once(process, 'close')
    const since = performance.now()
    await until('three looks that are not taken', () => Promise.resolve(performance.now() - since > 700 ? true : null))
    expect(changes).toEqual([])
  })

  it('survives processes that vanish while it looks, and a procfs that can not be read', async () => {
    const root = await procWith({ 42: { stat: statOf('guarded') } })
    const { changes } = watching(root, ['guarded'])
    await rm(join(root, 'proc', '42'), { recursive: true })
    await until('the end', () => Promise.resolve(changes.length > 0 ? true : null))
    changes.length = 0
    await rm(join(root, 'proc'), { recursive: true })
    await until('blind', () => Promise.resolve(changes.length === 1 ? true : null))
    await mkdir(join(root, 'proc', '1'), { recursive: true })
    await until('seeing again', () => Promise.resolve(changes.length === 2 ? true : null))
  })
})
