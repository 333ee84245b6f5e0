import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compileSchedule, days, isTimeZone, readHours } from '../../../domain/access/schedule.ts'

const HOUR = 3_600_000
const weekdays = ['mon', 'tue', 'wed', 'thu', 'fri'] as const
const at = (text: string) => Date.parse(text)

describe('a schedule', () => {
  it('stands on its days and hours, in its own zone', () => {
    const schedule = compileSchedule({ days: weekdays, hours: ['08:00-12:00', '13:00-18:00'], timeZone: 'Europe/Berlin' })
    // 2026-11-23 is a Monday; Berlin is an hour ahead.
    for (const [text, stands] of [['2026-11-23T06:59:59.999Z', false], ['2026-11-23T07:00Z', true], ['2026-11-23T10:59:59Z', true], ['2026-11-23T11:00Z', false], ['2026-11-23T12:00Z', true], ['2026-11-23T17:00Z', false], ['2026-11-22T10:00Z', false], ['2026-11-28T10:00Z', false]] as const) {
      expect(schedule(at(text)).stands, text).toBe(stands)
    }
    expect(schedule(at('2026-11-23T07:30Z')).until).toBe(at('2026-11-23T11:00Z'))
  })

  it('runs past midnight on the day on which it began', () => {
    const schedule = compileSchedule({ days: ['fri'], hours: ['22:00-06:00'], timeZone: 'UTC' })
    for (const [text, stands] of [['2026-11-27T21:59Z', false], ['2026-11-27T22:00Z', true], ['2026-11-28T05:59Z', true], ['2026-11-28T06:00Z', false], ['2026-11-28T22:30Z', false], ['2026-11-27T03:00Z', false]] as const) expect(schedule(at(text)).stands, text).toBe(stands)
  })

  it('follows the zone through daylight saving', () => {
    const schedule = compileSchedule({ days, hours: ['02:30-05:00'], timeZone: 'Europe/Berlin' })
    // On 2026-03-29 clocks jump from 02:00 to 03:00: the hours begin with the jump.
    expect(schedule(at('2026-03-29T00:59:59Z'))).toMatchObject({ stands: false })
    expect(schedule(at('2026-03-29T00:59:59Z')).until).toBeLessThanOrEqual(at('2026-03-29T01:00:01Z'))
    expect(schedule(at('2026-03-29T01:00:01Z')).stands).toBe(true)
    expect(schedule(at('2026-03-29T03:00Z')).stands).toBe(false)
    // On 2026-10-25 the hour from 02:00 comes twice.
    expect([schedule(at('2026-10-25T00:45Z')).stands, schedule(at('2026-10-25T01:15Z')).stands, schedule(at('2026-10-25T01:45Z')).stands]).toEqual([true, false, true])
  })

  it('says nothing of an instant that it does not hold at: property', () => {
    const span = fc.tuple(fc.integer({ min: 0, max: 1439 }), fc.integer({ min: 0, max: 1439 })).filter(([a, b]) => a !== b)
    const clock = (minutes: number) => `${String(Math.floor(minutes / 60)).padStart(2, '0')}:${String(minutes % 60).padStart(2, '0')}`
    fc.assert(fc.property(fc.subarray([...days], { minLength: 1 }), fc.array(span, { minLength: 1, maxLength: 3 }), fc.constantFrom('UTC', 'Europe/Berlin', 'America/New_York', 'Asia/Kolkata', 'Australia/Lord_Howe'),
      fc.integer({ min: at('2026-01-01T00:00Z'), max: at('2027-12-31T00:00Z') }), fc.double({ min: 0, max: 0.999, noNaN: true }), (named, spans, timeZone, now, share) => {
        const text = { days: named, hours: spans.map(([from, to]) => `${clock(from)}-${clock(to)}`), timeZone }
        const { stands, until } = compileSchedule(text)(now)
        expect(until).toBeGreaterThan(now)
        expect(until - now).toBeLessThanOrEqual(26 * HOUR)
        // Anew, so that no kept answer is asked: what was said stands until its end.
        expect(compileSchedule(text)(Math.floor(now + (until - now) * share)).stands).toBe(stands)
      }), { numRuns: 500 })
  })

  it('is written in hours and zones that exist', () => {
    expect(['08:00-18:00', '22:00-06:00', '00:00-24:00'].map((text) => readHours(text) !== null)).toEqual([true, true, true])
    expect(['8:00-18:00', '08:00-25:00', '08:00-08:00', '24:00-01:00', '08:00', 'x'].map((text) => readHours(text))).toEqual([null, null, null, null, null, null])
    expect([isTimeZone('Europe/Berlin'), isTimeZone('Mars/Base')]).toEqual([true, false])
  })
})
