// The state directory: one agent at a time, nobody else's, and a disk that is full or read-only in the middle of everything.
import { execFile, execFileSync, fork, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { chmod, chown, mkdir, readFile, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, describe, expect, it } from 'vitest'
import { forgetEnrolment, readIdentity, readLetGo, stateFiles } from '../../agent/certificates/identity-store.ts'
import { enrolAgent } from '../../agent/enrol.ts'
import { keepFile } from '../../agent/kept-file.ts'
import { askAgent, serveStatus, statusSocket } from '../../agent/local-status.ts'
import { statePlace } from '../../agent/state-place.ts'
import { lockState } from '../../agent/state-lock.ts'
import { createTroubles } from '../../agent/troubles.ts'
import { silentLog } from '../../node/logging.ts'
import { until } from '../../start/steps.ts'
import { closeAll, enrolledScene, onEnd, temporaryDirectory, type Scene } from './agent-under-test.ts'
import { UID } from './ems-double.ts'
import { manualTimers } from './manual-timers.ts'

afterEach(closeAll)
const isRoot = process.getuid?.() === 0
/** Root in a container may not mount: tried, not guessed. */
function mayMount(): boolean {
  if (!isRoot) return false
  const at = mkdtempSync(join(tmpdir(), 'may-mount-'))
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', at]).status === 0
  if (mounted) execFileSync('umount', [at])
  rmSync(at, { recursive: true })
  return mounted
}
const happened = <T>(what: string, ask: () => T | null | undefined | false): Promise<T> => until(what, () => Promise.resolve(ask() || null), 45_000, 10)

/** A file system of its own in memory, of which the test decides how full it is and whether it may be written. */
async function ownDisk(): Promise<{ path: string; fill(): Promise<void>; empty(): Promise<void>; readOnly(on: boolean): void }> {
  const path = await temporaryDirectory()
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m,mode=700', 'tmpfs', path])
  onEnd(() => promisify(execFile)('umount', ['-l', path]))
  const ballast = join(path, 'ballast')
  return {
    path,
    async fill() {
      await writeFile(ballast, Buffer.alloc(4 * 1024 * 1024)).catch((cause: NodeJS.ErrnoException) => { if (cause.code !== 'ENOSPC') throw cause })
    },
    empty: () => truncate(ballast, 0),
    // A second mount of the same: the first can't become read-only while a file in it is open for writing.
    readOnly(on) {
      if (!on) return void execFileSync('umount', [path])
      execFileSync('mount', ['--bind', path, path])
      execFileSync('mount', ['-o', 'remount,bind,ro', path])
    },
  }
}

describe('the lock of a state directory', () => {
  it('is held by one at a time, and free again when it is released', async () => {
    const directory = join(await temporaryDirectory(), 'new/state')
    const first = await lockState(directory)
    expect((await stat(directory)).mode & 0o777).toBe(0o700)
    await expect(lockState(directory)).rejects.toThrow(/running already.*--state/)
    first.release()
    ;(await lockState(directory)).release()
    expect((await stat(join(directory, 'lock'))).mode & 0o777).toBe(0o600)
  })
  it('is held by one of many that come at the same instant', async () => {
    const directory = await temporaryDirectory()
    const all = await Promise.allSettled(Array.from({ length: 20 }, () => lockState(directory)))
    expect(all.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
    for (const each of all) if (each.status === 'fulfilled') each.value.release()
  })
  it('of another process is respected, and gone when that process is killed', async () => {
    const directory = await temporaryDirectory()
    const program = join(await temporaryDirectory(), 'holder.mjs')
    await writeFile(program, `import { lockState } from ${JSON.stringify(new URL('../../agent/state-lock.ts', import.meta.url).href)}\nawait lockState(process.argv[2])\nprocess.send('held')\nsetInterval(() => {}, 1000)\n`)
    const holder = fork(program, [directory])
    onEnd(() => Promise.resolve(holder.kill('SIGKILL')))
    await once(holder, 'message')
    await expect(lockState(directory)).rejects.toThrow(/running already/)
    holder.kill('SIGKILL')
    await once(holder, 'exit')
    ;(await lockState(directory)).release()
  })
  it('is not taken where somebody else could put another identity into the directory', async ({ skip }) => {
    const directory = await temporaryDirectory()
    await chmod(directory, 0o770)
    await expect(lockState(directory)).rejects.toThrow(/may be written by others.*chmod 700/)
    await chmod(directory, 0o755)
    ;(await lockState(directory)).release()
    if (!isRoot) return skip('needs root to give a directory to another account')
    await chown(directory, 1234, 1234)
    await expect(lockState(directory)).rejects.toThrow(/belongs to another account \(uid 1234\)/)
  })
})

describe.skipIf(!mayMount())('a full or read-only disk (needs root that may mount a small file system)', () => {
  it('at enrolment is said, and the same invitation works when there is room', async () => {
    const disk = await ownDisk()
    const scene = await enrolledScene()
    const enrol = () => enrolAgent({ invitation: scene.ems.invitation, stateDirectory: disk.path, tlsCa: [scene.ems.tlsCa], ownerUid: 0, now: Date.now, log: silentLog() })
    await disk.fill()
    await expect(enrol()).rejects.toMatchObject({ code: 'ENOSPC' })
    disk.readOnly(true)
    await expect(enrol()).rejects.toThrow(/can not be written/)
    disk.readOnly(false)
    await disk.empty()
    expect((await enrol()).uid).toBe(UID)
    expect((await readIdentity(disk.path))?.uid).toBe(UID)
    expect((await readdir(disk.path)).sort()).toEqual(['ballast', 'documents.json', 'identity.json', 'lock'])
  })

  async function onDisk(): Promise<{ scene: Scene; disk: Awaited<ReturnType<typeof ownDisk>> }> {
    const disk = await ownDisk()
    const scene = await enrolledScene()
    for (const name of await readdir(scene.directory)) await writeFile(join(disk.path, name), await readFile(join(scene.directory, name)), { mode: 0o600 })
    return { scene, disk }
  }

  it.each(['full', 'read-only'])('while it runs (%s) stops nothing: reports go on, documents are followed, the status says it, and what was held back is written later', async (how) => {
    const { scene, disk } = await onDisk()
    const agent = await scene.start({ stateDirectory: disk.path })
    await happened('a report', () => scene.ems.held.has('os') && scene.ems.sockets.length > 0)
    const onFile = async () => JSON.parse(await readFile(stateFiles(disk.path).telemetry, 'utf8')) as { sequence: number }
    await until('the sequence on disk', async () => (scene.ems.sequence > 0 && (await onFile().catch(() => null))?.sequence === scene.ems.sequence ? true : null))
    if (how === 'full') await disk.fill()
    else disk.readOnly(true)
    // Now that nothing is written any more: until here a report of something else may have been.
    const [before, sequence] = [await onFile(), scene.ems.sequence]
    scene.ems.setProfile({ userMaySet: [] })
    scene.ems.setRules([{ key: `ck_${'0'.repeat(32)}`, condition: { type: 'file', negate: false, path: '/' } }])
    await agent.checkNow()
    await happened('the documents', () => scene.told('document-applied').some(({ kind }) => kind === 'rules') && scene.told('document-applied').some(({ kind }) => kind === 'profile'))
    await happened('the answer', () => JSON.stringify(scene.ems.held.get('verdicts')?.value).includes('exists'))
    expect(scene.ems.sequence).toBeGreaterThan(sequence)
    expect((await onFile()).sequence).toBe(before.sequence)
    const { troubles, uid } = await agent.status()
    expect(uid).toBe(UID)
    expect(troubles).toMatchObject([{ kind: 'storage', sentence: expect.stringMatching(how === 'full' ? /the disk is full\. Make room/ : /read-only\. Mount it for writing/) as string }])
    if (how === 'full') await disk.empty()
    else disk.readOnly(false)
    await agent.close()
    expect(await agent.ended).toBe('closed')
    expect((await onFile()).sequence).toBe(scene.ems.sequence)
    const again = await scene.start({ stateDirectory: disk.path })
    expect((await again.status()).troubles).toEqual([])
    expect((await readdir(disk.path)).filter((name) => name.endsWith('.tmp'))).toEqual([])
  })

  it('at a start: full does not keep the agent from starting, read-only does and is said', async () => {
    const { scene, disk } = await onDisk()
    await disk.fill()
    const agent = await scene.start({ stateDirectory: disk.path })
    await happened('a report', () => scene.ems.held.has('os'))
    await agent.close()
    disk.readOnly(true)
    await expect(scene.start({ stateDirectory: disk.path })).rejects.toThrow(/can not be written/)
    disk.readOnly(false)
  })

  it('does not keep a key when the enrolment ends: forgetting makes its own room', async () => {
    const { scene, disk } = await onDisk()
    const agent = await scene.start({ stateDirectory: disk.path })
    const socket = await happened('the channel', () => scene.ems.sockets[0])
    await disk.fill()
    socket.tell({ type: 'document', kind: 'deregistration', document: await scene.ems.signDeregistration() })
    expect(await agent.ended).toBe('deregistered')
    expect((await readdir(disk.path)).sort()).toEqual(['ballast', 'deregistered.json', 'lock'])
    expect((await readLetGo(disk.path))?.uid).toBe(UID)
  })
})

describe('a state file', () => {
  it('that could not be written is tried again, with the last of what it should hold', async () => {
    const [timers, troubles] = [manualTimers(), createTroubles(silentLog(), () => 5)]
    const written: unknown[] = []
    let full = true
    const file = keepFile<number>({
      path: '/state/x.json', timers, troubles, onDefect: (cause) => { throw cause },
      write: (_path, value) => (full ? Promise.reject(Object.assign(new Error('ENOSPC'), { code: 'ENOSPC', syscall: 'write' })) : Promise.resolve(void written.push(value))),
    })
    await file.write(1)
    await Promise.all([file.write(2), file.write(3)])
    expect(troubles.all()).toMatchObject([{ kind: 'storage', since: 5 }])
    expect(timers.waiting()).toEqual([15_000])
    full = false
    await timers.advance(15_000)
    expect([written, troubles.all(), timers.waiting()]).toEqual([[3], [], []])
    await file.close()
    await file.write(4)
    expect(written).toEqual([3])
  })
})

describe('a let-go that a crash interrupted', () => {
  it('is finished by the next start, at whichever point it was', async () => {
    const scene = await enrolledScene()
    const record = { uid: UID, ems: scene.ems.address, reason: 'left', at: 1 }
    const files = stateFiles(scene.directory)
    await writeFile(files.letGo, JSON.stringify(record))
    await expect(scene.start()).rejects.toThrow(/deregistered on 1970-01-01 \("left"\)/)
    expect(await readdir(scene.directory)).toEqual(['deregistered.json', 'lock'])
    await writeFile(files.documents, '{}')
    await forgetEnrolment(scene.directory, record)
    await forgetEnrolment(scene.directory, record)
    expect(await readdir(scene.directory)).toEqual(['deregistered.json', 'lock'])
  })
})

describe('the state that a command means', () => {
  it('is the person\'s own, and for what asks an agent the machine\'s where only that one runs', async () => {
    const [home, machine] = [await temporaryDirectory(), await temporaryDirectory()]
    const own = join(home, '.sallyport-agent')
    expect([statePlace(true, home, machine), statePlace(false, home, machine)]).toEqual([own, own])
    const served = await serveStatus(machine, () => Promise.resolve(1))
    onEnd(served.close)
    expect([statePlace(true, home, machine), statePlace(false, home, machine)]).toEqual([machine, own])
    await mkdir(own)
    expect(statePlace(true, home, machine)).toBe(own)
  })
})

describe('the status socket', () => {
  it('answers questions, and says what it does not know', async () => {
    const directory = await temporaryDirectory()
    const served = await serveStatus(directory, (question) => (question.ask === 'explain' ? Promise.reject(new Error(`nothing about ${question.subject}`)) : Promise.resolve({ all: 'well' })))
    onEnd(served.close)
    expect((await stat(statusSocket(directory))).mode & 0o777).toBe(0o600)
    expect(await askAgent(directory, { ask: 'status' })).toEqual({ all: 'well' })
    await expect(askAgent(directory, { ask: 'explain', subject: 'x' })).rejects.toThrow('nothing about x')
    await expect(askAgent(directory, { ask: 'everything' } as never)).rejects.toThrow(/not a question/)
    await expect(askAgent(directory, { ask: 'explain', subject: 'x'.repeat(10_000) })).rejects.toThrow()
    expect(await askAgent(directory, { ask: 'status' })).toEqual({ all: 'well' })
  })
  it('closes though somebody holds a connection open, and leaves nobody waiting', async () => {
    const directory = await temporaryDirectory()
    const asked = Promise.withResolvers<void>()
    const served = await serveStatus(directory, () => {
      asked.resolve()
      return new Promise(() => undefined)
    })
    const idle = connect(statusSocket(directory))
    await once(idle, 'connect')
    const asking = askAgent(directory, { ask: 'status' })
    await asked.promise
    const gone = once(idle, 'close')
    const refused = expect(asking).rejects.toThrow(/ended before it had answered/)
    await served.close()
    await Promise.all([gone, refused])
    expect(await askAgent(directory, { ask: 'status' })).toBeNull()
  })
  it('replaces one that a dead agent left, and refuses a path that no socket can have', async () => {
    const directory = await temporaryDirectory()
    await writeFile(statusSocket(directory), '')
    const served = await serveStatus(directory, () => Promise.resolve(1))
    expect(await askAgent(directory, { ask: 'status' })).toBe(1)
    await served.close()
    const deep = join(directory, 'x'.repeat(90))
    await mkdir(deep)
    await expect(serveStatus(deep, () => Promise.resolve(1))).rejects.toThrow(/too long.*--state/)
    await rm(deep, { recursive: true })
  })
})
