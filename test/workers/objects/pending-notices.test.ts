// When a gateway is told: by the clock, by whether it has applied what it was told, and by how many endpoints change.
import { describe, expect, it } from 'vitest'
import { PendingNotices, TELL_EVERY_MS, type Told } from '../../../durable-objects/pending-notices.ts'
import type { LogRow } from '../../../durable-objects/log-entry.ts'

const cursor = (revision: number) => ({ revision, mark: String(revision).padStart(16, '0') })
const row = (revision: number, uid: string | null = `u${revision}`): LogRow => ({ ...cursor(revision), at: revision, uid, tables: ['uid_tags'], entry: null, sights: null })
const told = (revision: number, uid?: string): Told => ({ kind: 'told', before: cursor(revision - 1), cursor: cursor(revision), rows: [row(revision, uid)], sysinfo: {} })

describe('what waits to be told', () => {
  it('waits not at all when it is the first, and a second after the last while that one was not applied', () => {
    const pending = new PendingNotices()
    pending.add(told(1), 10_000)
    expect(pending.waitFor(10_000, false)).toBe(0)
    expect(pending.take(10_000)).toMatchObject({ before: cursor(0), cursor: cursor(1), isWhole: true })
    expect(pending.waiting).toBe(false)
    pending.add(told(2), 10_100)
    expect([pending.waitFor(10_100, false), pending.waitFor(10_100, true), pending.waitFor(11_500, false)]).toEqual([900, 0, 0])
  })
  it('is one step from where the last one ended', () => {
    const pending = new PendingNotices()
    for (const revision of [1, 2, 3]) pending.add(told(revision), 0)
    expect(pending.take(0)).toMatchObject({ before: cursor(0), cursor: cursor(3), rows: [row(1), row(2), row(3)], isWhole: true })
    expect(pending.take(0)).toBeNull()
  })
  it('waits for its second when more endpoints change in one than are calm, until a second has passed', () => {
    const pending = new PendingNotices()
    pending.add(told(1), 0)
    pending.take(0)
    for (let revision = 2; revision < 12; revision++) pending.add(told(revision), 100)
    expect(pending.waitFor(100, true)).toBe(TELL_EVERY_MS - 100)
    expect(pending.waitFor(TELL_EVERY_MS, true)).toBe(0)
    pending.take(TELL_EVERY_MS)
    pending.add(told(12), TELL_EVERY_MS + 10)
    expect(pending.waitFor(TELL_EVERY_MS + 10, true)).toBe(0)
    for (let revision = 13; revision < 30; revision++) pending.add(told(revision, 'one'), TELL_EVERY_MS + 20)
    expect(pending.waitFor(TELL_EVERY_MS + 20, true)).toBe(0)
  })
  it('keeps only the tables when it grows large, and never an increment of the rest', () => {
    const pending = new PendingNotices()
    for (let revision = 1; revision < 1_500; revision++) pending.add(told(revision), 0)
    const held = pending.take(0)
    expect([held?.isWhole, held?.before, held?.cursor]).toEqual([false, cursor(0), cursor(1_499)])
    expect(held?.rows.length).toBeLessThan(10)
    expect(held?.rows.every(({ uid, tables }) => uid === null && tables.length === 1)).toBe(true)
  })
})
