// The snapshot on disk: back as it was, never fresher, refused when damaged or another gateway's; a disk that fails is said once.
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { endpointByUid, uidBySerial } from '../../../domain/access/snapshot.ts'
import { keepSnapshot } from '../../../gateway/fabric/keep-snapshot.ts'
import { systemFacts, tagFacts } from '../../../gateway/fabric/records.ts'
import { createReplica, type Replica } from '../../../gateway/fabric/replica.ts'
import { loadSnapshot, readCurrency, saveSnapshot } from '../../../gateway/fabric/snapshot-file.ts'
import { systemTimers, type Timers } from '../../../node/timers.ts'
import { certificateSerialOf, HEALTHY, mark, SERIAL, systemRow, tagsRow, uidOf } from './ems-double.ts'
import { readableLog, until } from './follower-under-test.ts'

const quick: Timers = { after: (_delayMs, action) => systemTimers.after(1, action) }
let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'snapshot-'))
})
afterEach(() => rm(directory, { recursive: true }))

function filled(count = 3): Replica {
  const replica = createReplica()
  replica.commit((draft) => {
    for (let number = 1; number <= count; number++) {
      const facts = systemFacts(uidOf(number), systemRow(number))
      if (facts !== null) draft.system(uidOf(number), facts)
      draft.tags(uidOf(number), tagFacts(uidOf(number), tagsRow([HEALTHY], ['another'])))
    }
    draft.tags(uidOf(99), tagFacts(uidOf(99), tagsRow([HEALTHY])))
    draft.wholeTagNames(new Map([[HEALTHY, 'healthy']]))
    draft.current(mark(7), 1_000)
  })
  return replica
}
const file = () => join(directory, 'snapshot.ndjson')

describe('the snapshot on disk', () => {
  it('comes back whole, as stale as it was', async () => {
    const replica = filled()
    await saveSnapshot(directory, SERIAL, replica.state(), 2_000, null)
    const loaded = await loadSnapshot(directory, SERIAL, 900_000)
    expect(loaded).toEqual({ ok: true, state: replica.state() })
    if (!loaded.ok) return
    expect(loaded.state.snapshot.currentAt).toBe(1_000)
    expect(endpointByUid(loaded.state.snapshot, uidOf(2))?.hostName).toBe('laptop-2')
    expect(uidBySerial(loaded.state.snapshot, certificateSerialOf(2))).toBe(uidOf(2))
    expect((await stat(file())).mode & 0o777).toBe(0o600)
  })

  it('writes the small file alone when it only became current again', async () => {
    const replica = filled()
    const saved = await saveSnapshot(directory, SERIAL, replica.state(), 2_000, null)
    const before = await stat(file())
    replica.commit((draft) => draft.current(mark(8), 60_000))
    await saveSnapshot(directory, SERIAL, replica.state(), 61_000, saved)
    expect((await stat(file())).ino).toBe(before.ino)
    expect(await loadSnapshot(directory, SERIAL, 61_000)).toMatchObject({ ok: true, state: { held: { sysinfo: mark(8) }, snapshot: { currentAt: 60_000, revision: mark(8) } } })
  })

  it('is never fresher than it was when the small file belongs to another one', async () => {
    const replica = filled()
    await saveSnapshot(directory, SERIAL, replica.state(), 2_000, null)
    const currency = await readCurrency(directory)
    await writeFile(join(directory, 'snapshot.json'), JSON.stringify({ ...currency, checksum: '0'.repeat(64), currentAt: 800_000 }))
    expect(await loadSnapshot(directory, SERIAL, 900_000)).toMatchObject({ ok: true, state: { snapshot: { currentAt: 1_000 } } })
    await writeFile(join(directory, 'snapshot.json'), '{"torn')
    expect(await loadSnapshot(directory, SERIAL, 900_000)).toMatchObject({ ok: true, state: { snapshot: { currentAt: 1_000 } } })
  })

  it('does not look fresh because the clock was set back', async () => {
    await saveSnapshot(directory, SERIAL, filled().state(), 2_000, null)
    expect(await loadSnapshot(directory, SERIAL, -100_000)).toMatchObject({ ok: true, state: { snapshot: { currentAt: null } } })
  })

  it('is refused when a byte of it changed, when it was cut short, and when another gateway wrote it', async () => {
    await saveSnapshot(directory, SERIAL, filled().state(), 2_000, null)
    const whole = await readFile(file(), 'utf8')
    expect(await loadSnapshot(directory, 'SPGWFFFFFFFFFFFF', 3_000)).toEqual({ ok: false, reason: 'foreign' })
    for (const damaged of [whole.replace('"quarantined":false', '"quarantined":true '), whole.slice(0, whole.length / 2), whole.split('\n').slice(0, -2).join('\n'), '', 'null\n']) {
      await writeFile(file(), damaged)
      expect(await loadSnapshot(directory, SERIAL, 3_000)).toEqual({ ok: false, reason: 'damaged' })
    }
    await rm(file())
    expect(await loadSnapshot(directory, SERIAL, 3_000)).toEqual({ ok: false, reason: 'none' })
  })

  it('says once that it can not be kept, goes on, and says when it can be again', async () => {
    const replica = createReplica()
    const { log, events } = readableLog()
    const keeper = keepSnapshot({ directory, serial: SERIAL, replica, timers: quick, now: () => 5, log })
    // A directory in its place fails the rename as a full disk fails the write.
    await mkdir(join(file(), 'in-the-way'), { recursive: true })
    const touch = (revision: number) => replica.commit((draft) => draft.current(mark(revision), 5))
    touch(1)
    await until('the line', () => events().length === 1)
    touch(2)
    touch(3)
    await rm(file(), { recursive: true })
    touch(4)
    await until('the second line', () => events().length === 2)
    expect(events().map(({ event }) => event)).toEqual(['snapshot-not-saved', 'snapshot-saved-again'])
    await keeper.close()
    expect(await readCurrency(directory)).toMatchObject({ revision: mark(4) })
  })

  it('writes down at once that authority was taken away', async () => {
    const replica = filled()
    const never: Timers = { after: () => () => {} }
    const keeper = keepSnapshot({ directory, serial: SERIAL, replica, timers: never, now: () => 5, log: readableLog().log })
    replica.forget()
    await until('the file', () => stat(join(directory, 'snapshot.json')).then(() => true, () => false))
    await keeper.close()
    expect(await loadSnapshot(directory, SERIAL, 5)).toMatchObject({ ok: true, state: { snapshot: { currentAt: null, endpoints: { size: 0 } } } })
  })
})
