// A verified user on the way to a decision: off the wire whole or not at all, kept on disk, and what many have in common kept once.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createHash } from 'node:crypto'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { endpointByUid } from '../../../domain/access/snapshot.ts'
import { recordChanges } from '../../../gateway/cluster/snapshot-step.ts'
import { createWorkerWorld } from '../../../gateway/cluster/worker-world.ts'
import { systemFacts } from '../../../gateway/fabric/records.ts'
import { createReplica } from '../../../gateway/fabric/replica.ts'
import { loadSnapshot, saveSnapshot } from '../../../gateway/fabric/snapshot-file.ts'
import type { SysinfoRecord } from '../../../protocol/fabric/tables.ts'
import type { Changed } from '../../../gateway/world.ts'
import { mark, SERIAL, systemRow, uidOf } from './ems-double.ts'

const directories: string[] = []
afterEach(async () => {
  for (const directory of directories.splice(0)) await rm(directory, { recursive: true })
})

type Wire = NonNullable<SysinfoRecord['verified_user']>
const alice: Wire = { issuer: 'https://idp.test', subject: 's-1', email: 'alice@corp.test', name: 'Alice', groups: ['staff', 'ops'], authenticated_at: 1_800_000_000, expires_at: 1_800_043_200 }
const userOf = (wire: Wire | undefined) => systemFacts(uidOf(1), systemRow(1, { verified_user: wire }))?.user

/** Three endpoints, the first two with users who are in the same groups. */
function filled() {
  const replica = createReplica()
  replica.commit((draft) => {
    const wires: (Wire | undefined)[] = [alice, { ...alice, subject: 's-2', email: 'bob@corp.test', groups: ['ops', 'staff'] }, undefined]
    wires.forEach((wire, index) => {
      const facts = systemFacts(uidOf(index + 1), systemRow(index + 1, { verified_user: wire }))
      if (facts !== null) draft.system(uidOf(index + 1), facts)
    })
    draft.current(mark(7), 1_000)
  })
  return replica
}

describe('a verified user off the wire', () => {
  it('is told in seconds and kept in milliseconds; groups are a set', () => {
    expect(userOf(alice)).toEqual({ issuer: 'https://idp.test', subject: 's-1', email: 'alice@corp.test', name: 'Alice', groups: ['ops', 'staff'], authenticatedAt: 1_800_000_000_000, expiresAt: 1_800_043_200_000 })
    expect(userOf({ issuer: 'https://idp.test', subject: 's-1', authenticated_at: 1, expires_at: null })).toEqual({ issuer: 'https://idp.test', subject: 's-1', authenticatedAt: 1_000, expiresAt: null })
    expect(userOf({ ...alice, groups: ['ops', 'ops'] })?.groups).toEqual(['ops'])
  })
  it('is nobody when any of it does not read as one', () => {
    for (const odd of [{ issuer: '' }, { subject: '' }, { subject: 'a\nb' }, { subject: 'x'.repeat(257) }, { email: 'not an address' }, { email: '' }, { name: '\u202eecila' }, { groups: ['staff', ''] }, { groups: ['sta\u0000ff'] }, { groups: Array.from({ length: 257 }, (_, n) => `g${n}`) },
      { authenticated_at: -1 }, { authenticated_at: 9e15 }, { expires_at: -5 }, { expires_at: Number.MAX_SAFE_INTEGER }]) expect(userOf({ ...alice, ...odd }), JSON.stringify(odd)).toBeUndefined()
    expect(systemFacts(uidOf(1), systemRow(1, { verified_user: { ...alice, email: 'x' } }))).toMatchObject({ uid: uidOf(1), registered: true })
  })
  it('shares its groups with everybody who is in the same', () => {
    const [one, two] = [userOf(alice), userOf({ ...alice, subject: 's-2', groups: ['ops', 'staff'] })]
    expect(one?.groups).toBe(two?.groups)
    const many = Array.from({ length: 200 }, (_, n) => `${'long'.repeat(30)}-${n}`)
    expect(userOf({ ...alice, groups: many })?.groups).toEqual(many.toSorted())
  })
  it('is gone once the EMS no longer tells of one, and only that endpoint has changed', () => {
    const replica = filled()
    const changes: Changed[] = []
    replica.onChange((changed) => changes.push(changed))
    const before = replica.snapshot()
    replica.commit((draft) => {
      const facts = systemFacts(uidOf(1), systemRow(1))
      if (facts !== null) draft.system(uidOf(1), facts)
    })
    expect(changes).toEqual([new Set([uidOf(1)])])
    expect([endpointByUid(before, uidOf(1))?.user?.subject, endpointByUid(replica.snapshot(), uidOf(1))?.user, endpointByUid(replica.snapshot(), uidOf(2))?.user?.subject]).toEqual(['s-1', undefined, 's-2'])
    expect(recordChanges(before, replica.snapshot()).map(([uid]) => uid)).toEqual([uidOf(1)])
  })
})

describe('a verified user is kept', () => {
  it('on disk, and what an older gateway kept is read still', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'users-'))
    directories.push(directory)
    const replica = filled()
    await saveSnapshot(directory, SERIAL, replica.state(), 2_000, null)
    const loaded = await loadSnapshot(directory, SERIAL, 2_000)
    expect(loaded).toEqual({ ok: true, state: replica.state() })
    if (!loaded.ok) return
    const users = [1, 2].map((number) => endpointByUid(loaded.state.snapshot, uidOf(number))?.user)
    expect(users[0]?.groups).toBe(users[1]?.groups)
    // As it was written before there were users: no record names one.
    const [first = '', ...lines] = (await readFile(join(directory, 'snapshot.ndjson'), 'utf8')).trimEnd().split('\n').slice(0, -1)
    const body = [first, ...lines.map((line) => JSON.stringify({ ...JSON.parse(line) as object, user: undefined }))].map((line) => `${line}\n`).join('')
    await writeFile(join(directory, 'snapshot.ndjson'), `${body}${JSON.stringify({ checksum: createHash('sha256').update(body).digest('hex') })}\n`)
    expect(await loadSnapshot(directory, SERIAL, 2_000)).toMatchObject({ ok: true, state: { snapshot: { endpoints: { size: 3 } } } })
  })
  it('by a worker as by the primary', () => {
    const { world, change } = createWorkerWorld(() => {})
    const { snapshot } = filled().state()
    change(structuredClone({ step: 1, records: recordChanges(createReplica().snapshot(), snapshot), revision: snapshot.revision, currentAt: snapshot.currentAt, changed: 'all', cause: {} }))
    const users = [1, 2, 3].map((number) => endpointByUid(world.snapshot(), uidOf(number))?.user)
    expect(users).toEqual([1, 2, 3].map((number) => endpointByUid(snapshot, uidOf(number))?.user))
    expect(users[0]?.groups).toBe(users[1]?.groups)
  })
})
