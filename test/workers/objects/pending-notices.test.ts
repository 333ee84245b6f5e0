// When a gateway is told: by the clock, by whether it has applied what it was told, and by how many endpoints change.
import { describe, expect, it } from 'vitest'
import { CALM_ENDPOINTS, PendingNotices, TELL_EVERY_MS, type Told, type Waiting } from '../../../durable-objects/pending-notices.ts'
import type { LogRow } from '../../../durable-objects/log-entry.ts'

const cursor = (revision: number) => ({ revision, mark: String(revision).padStart(16, '0') })
const row = (revision: number, uid: string | null = `u${revision}`): LogRow => ({ ...cursor(revision), at: revision, uid, tables: ['uid_tags'], entry: null, sights: null })
const told = (revision: number, ...uids: string[]): Told => {
  const rows = uids.length === 0 ? [row(revision)] : uids.map((uid, n) => row(revision + n, uid))
  return { kind: 'told', before: cursor(revision - 1), cursor: cursor(revision + rows.length - 1), rows, sysinfo: {} }
}

/** A clock that the test sets, what was told by it and when, and a gateway that applies or does not. */
function underTest() {
  let now = 0
  const timers = new Map<object, { at: number; action: () => void }>()
  const heard: { at: number; waiting: Waiting }[] = []
  const reader = { applied: true, onTold: () => {} }
  const after = (delayMs: number, action: () => void) => {
    const key = {}
    timers.set(key, { at: now + delayMs, action })
    return () => { timers.delete(key) }
  }
  const pending = new PendingNotices({
    clock: { now: () => now, after }, isApplied: () => reader.applied,
    tell(waiting) {
      heard.push({ at: now, waiting })
      reader.onTold()
    },
  })
  return {
    pending, heard, reader, after, now: () => now,
    /** Lets time pass, timer by timer. */
    until(ms: number) {
      for (;;) {
        const [next] = [...timers].filter(([, { at }]) => at <= ms).sort(([, a], [, b]) => a.at - b.at)
        if (next === undefined) break
        timers.delete(next[0])
        now = Math.max(now, next[1].at)
        next[1].action()
      }
      now = ms
    },
    setClock(ms: number) { now = ms },
  }
}

describe('what waits to be told', () => {
  it('waits not at all when it is the first, and until that one was applied, or a second, when it is not', () => {
    const { pending, heard, reader, until } = underTest()
    reader.applied = false
    pending.add(told(1))
    expect(heard).toMatchObject([{ at: 0, waiting: { before: cursor(0), cursor: cursor(1), isWhole: true } }])
    until(100)
    pending.add(told(2))
    expect(heard).toHaveLength(1)
    reader.applied = true
    pending.tellInTime()
    expect(heard.map(({ at }) => at)).toEqual([0, 100])
    reader.applied = false
    pending.add(told(3))
    until(5_000)
    expect(heard.map(({ at }) => at)).toEqual([0, 100, 100 + TELL_EVERY_MS])
  })
  it('is one step from where the last one ended', () => {
    const { pending, heard, reader, until } = underTest()
    reader.applied = false
    for (const revision of [1, 2, 3]) pending.add(told(revision))
    until(TELL_EVERY_MS)
    expect(heard.map(({ waiting }) => waiting)).toMatchObject([{ rows: [row(1)] }, { before: cursor(1), cursor: cursor(3), rows: [row(2), row(3)], isWhole: true }])
    expect(pending.waiting).toBe(false)
  })
  it('is told at once as long as no more endpoints change within a second than are calm, however often one of them does', () => {
    const { pending, heard, until } = underTest()
    for (let revision = 1; revision <= CALM_ENDPOINTS; revision++) pending.add(told(revision))
    for (let revision = 11; revision < 30; revision++) pending.add(told(revision, 'u1'))
    expect(heard).toHaveLength(29)
    until(999)
    pending.add(told(30))
    expect(heard).toHaveLength(29)
    until(10_000)
    expect(heard.map(({ at }) => at).at(-1)).toBe(TELL_EVERY_MS)
  })
  it('is the only notice within a second before and after it when it is of a burst, and what comes after that is told at once', () => {
    const { pending, heard, until } = underTest()
    pending.add(told(1))
    until(10)
    pending.add(told(2, ...Array.from({ length: CALM_ENDPOINTS + 1 }, (_, n) => `v${n}`)))
    until(TELL_EVERY_MS + 300)
    pending.add(told(20))
    until(5_000)
    pending.add(told(21))
    expect(heard.map(({ at }) => at)).toEqual([0, TELL_EVERY_MS, 2 * TELL_EVERY_MS, 5_000])
  })
  it('is told at once when it is the whole burst and nothing was told for a second', () => {
    const { pending, heard } = underTest()
    pending.add(told(1, ...Array.from({ length: 500 }, (_, n) => `v${n}`)))
    expect(heard).toHaveLength(1)
  })
  it('is not held up by a clock that was set back', () => {
    const { pending, heard, setClock } = underTest()
    setClock(3_600_000)
    pending.add(told(1, ...Array.from({ length: 500 }, (_, n) => `v${n}`)))
    setClock(0)
    pending.add(told(501))
    expect(heard).toHaveLength(2)
  })
  it('is dropped when nothing that was told can be continued', () => {
    const { pending, heard, reader, until } = underTest()
    reader.applied = false
    for (const revision of [1, 2]) pending.add(told(revision))
    pending.drop()
    until(5_000)
    expect([heard.length, pending.waiting]).toEqual([1, false])
  })
  it('keeps only the tables when it grows large, and never an increment of the rest', () => {
    const { pending, heard, reader, until } = underTest()
    reader.applied = false
    pending.add(told(1))
    for (let revision = 2; revision < 1_500; revision++) pending.add(told(revision))
    until(TELL_EVERY_MS)
    const held = heard.at(-1)?.waiting
    expect([held?.isWhole, held?.before, held?.cursor]).toEqual([false, cursor(1), cursor(1_499)])
    expect(held?.rows.length).toBeLessThan(10)
    expect(held?.rows.every(({ uid, tables }) => uid === null && tables.length === 1)).toBe(true)
  })
})

describe('ten thousand changes in bursts, with small changes before, between and after', () => {
  /** A generator that the same seed repeats. */
  const seeded = (seed: number) => () => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0
    return (seed >>> 8) / 16_777_216
  }
  it.each([1, 2, 3, 4, 5])('are one notice in any second in which a burst is told of; a small change waits for nothing; nothing is lost (seed %i)', (seed) => {
    const random = seeded(seed)
    const test = underTest()
    const { pending, heard, reader, until, after, now } = test
    reader.onTold = () => {
      reader.applied = false
      after(Math.floor(random() * 60), () => {
        reader.applied = true
        pending.tellInTime()
      })
    }
    const changes: { at: number; revision: number; uid: string; ofBurst: boolean; applied: boolean }[] = []
    let revision = 0
    const change = (uids: readonly string[]) => {
      const first = revision + 1
      revision += uids.length
      const recent = new Set([...changes.filter(({ at }) => now() - at < 1_000).map(({ uid }) => uid), ...uids])
      for (const [n, uid] of uids.entries()) changes.push({ at: now(), revision: first + n, uid, ofBurst: recent.size > CALM_ENDPOINTS, applied: reader.applied && !pending.waiting })
      pending.add(told(first, ...uids))
    }
    let burst = 0
    for (let phase = 0; burst < 10_000; phase++) {
      for (let n = 0; n < 8; n++) {
        until(now() + 150 + Math.floor(random() * 500))
        change([`calm-${phase}-${n}`])
      }
      // As pokes of an edit of a rule come: many at once and few, close together, with pauses shorter and longer than a second.
      for (let n = 0; n < 40 && burst < 10_000; n++) {
        const size = Math.min(10_000 - burst, random() < 0.3 ? 200 : 1 + Math.floor(random() * 12))
        change(Array.from({ length: size }, (_, each) => `burst-${burst + each}`))
        burst += size
        until(now() + Math.floor(random() * (random() < 0.1 ? 1_300 : 90)))
      }
    }
    until(now() + 10_000)

    expect(changes.filter(({ uid }) => uid.startsWith('burst'))).toHaveLength(10_000)
    // Each notice continues where the one before ended, to the last change.
    expect(heard.map(({ waiting }) => waiting.before.revision)).toEqual([0, ...heard.slice(0, -1).map(({ waiting }) => waiting.cursor.revision)])
    expect(heard.at(-1)?.waiting.cursor).toEqual(cursor(revision))
    const notices = heard.map(({ at, waiting }) => {
      const carried = changes.slice(waiting.before.revision, waiting.cursor.revision)
      return { at, carried, ofBurst: carried.some(({ ofBurst }) => ofBurst) }
    })
    const bursts = notices.filter(({ ofBurst }) => ofBurst)
    expect(bursts.length).toBeGreaterThan(10)
    for (const notice of bursts) expect(notices.filter(({ at }) => Math.abs(at - notice.at) < TELL_EVERY_MS)).toEqual([notice])
    // What is small, to a gateway that keeps up, with no notice of a burst in the second before, is told in the instant in which it happens.
    const small = notices.filter(({ ofBurst, carried: [first] }) => first !== undefined && !ofBurst && first.applied && !bursts.some(({ at }) => at < first.at && first.at - at < TELL_EVERY_MS))
    expect(small.length).toBeGreaterThan(5)
    for (const { at, carried } of small) expect(carried.filter((each) => each.at !== at)).toEqual([])
  })
})
