// When a policy stands: days and hours of a named time zone. Pure: the instant is an argument; daylight saving is the zone's.

export const days = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const
export type Day = (typeof days)[number]

export interface ScheduleText { readonly days: readonly Day[]; /** `08:00-18:00`; one that ends before it begins runs into the next day. */ readonly hours: readonly string[]; readonly timeZone: string }

/** Whether it stands, and the instant, ms, until which that is certain: at most a day, so that no calendar must be searched. */
export interface Standing { readonly stands: boolean; readonly until: number }
export type Schedule = (now: number) => Standing

const DAY_MINUTES = 1_440
const MINUTE = 60_000

/** Minutes of the day of `08:00-18:00`; null when it is no such thing. `24:00` is the end of the day. */
export function readHours(text: string): readonly [number, number] | null {
  const match = /^([01]\d|2[0-3]):([0-5]\d)-(?:([01]\d|2[0-3]):([0-5]\d)|24:00)$/.exec(text)
  if (match === null) return null
  const [from, to] = [Number(match[1]) * 60 + Number(match[2]), match[3] === undefined ? DAY_MINUTES : Number(match[3]) * 60 + Number(match[4])]
  return from === to ? null : [from, to]
}

/** Whether this machine's data knows the zone. */
export function isTimeZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat('en-US', { timeZone: name }).resolvedOptions().timeZone !== ''
  } catch {
    return false // RangeError: no such zone
  }
}

/** Local time minus UTC, ms, at an instant. */
function offsetReader(timeZone: string): (at: number) => number {
  const format = new Intl.DateTimeFormat('en-US', { timeZone, hourCycle: 'h23', year: 'numeric', month: 'numeric', day: 'numeric', hour: 'numeric', minute: 'numeric', second: 'numeric', era: 'short' })
  return (at) => {
    const parts = new Map(format.formatToParts(at).map(({ type, value }) => [type, Number(value)]))
    const part = (type: Intl.DateTimeFormatPartTypes) => parts.get(type) ?? 0
    return Date.UTC(part('year'), part('month') - 1, part('day'), part('hour'), part('minute'), part('second')) - Math.floor(at / 1000) * 1000
  }
}

/** The first instant after `from` with another offset, when the offset at `to` is another one. */
function changeBetween(offset: (at: number) => number, from: number, to: number): number {
  const before = offset(from)
  let [low, high] = [from, to]
  while (high - low > 1000) {
    const middle = Math.floor((low + high) / 2)
    if (offset(middle) === before) low = middle
    else high = middle
  }
  return high
}

/** Compiles a schedule. Its answer is kept until it ends: policies are walked far more often than hours strike. */
export function compileSchedule({ days: named, hours, timeZone }: ScheduleText): Schedule {
  const offset = offsetReader(timeZone)
  const onDay = days.map((day) => named.includes(day))
  const spans = hours.map(readHours).filter((span) => span !== null)
  const standsAt = (day: number, minute: number): boolean => spans.some(([from, to]) => (from < to
    ? onDay[day] === true && minute >= from && minute < to
    // Past midnight it is still the evening of the day before.
    : (onDay[day] === true && minute >= from) || (onDay[(day + 6) % 7] === true && minute < to)))
  const edges = [...new Set([...spans.flat(), DAY_MINUTES])].sort((a, b) => a - b)

  function read(now: number): Standing {
    const shift = offset(now)
    const local = now + shift
    const dayStart = Math.floor(local / (DAY_MINUTES * MINUTE)) * DAY_MINUTES * MINUTE
    const minute = Math.floor((local - dayStart) / MINUTE)
    // 1 January 1970 was a Thursday, the fourth of our days.
    const day = (Math.floor(local / (DAY_MINUTES * MINUTE)) % 7 + 7 + 3) % 7
    const edge = edges.find((each) => each > minute) ?? DAY_MINUTES
    const until = dayStart + edge * MINUTE - shift
    return { stands: standsAt(day, minute), until: offset(until - 1) === shift ? until : changeBetween(offset, now, until) }
  }
  let kept: Standing & { readonly from: number } = { stands: false, from: 0, until: 0 }
  return (now) => {
    if (now < kept.from || now >= kept.until) kept = { ...read(now), from: now }
    return kept
  }
}
