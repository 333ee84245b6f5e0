// Plays one fault: laptops change while it lasts, and when it is over every gateway must do what is true, in time, and hold no session that is not.
import { setTimeout as pause } from 'node:timers/promises'
import { LEARNT_MS, limitOf, STALE_AFTER_MS, type Fault } from './kinds.ts'
import type { Held, World } from './world.ts'

export interface Played { readonly fault: string; readonly flips: number; readonly rounds: number; readonly violations: readonly string[]; /** ms from the fault's end to all being true, the longest of all rounds. */ readonly slowestMs: number }

/** Flips between the beginning of a fault and its end: ten, and more where that would be more than twenty rounds. */
const flipsARound = (flips: number): number => Math.max(10, Math.ceil(flips / 20))

/** A generator that the same seed repeats (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

async function settle(world: World, limitMs: number): Promise<boolean> {
  const all = Promise.all(world.laptops.map((laptop) => laptop.settled())).then(() => true)
  return await Promise.race([all, pause(limitMs, false)])
}

/** @returns what is not true when the time is over, and how long it took */
async function converge(world: World, limitMs: number): Promise<{ left: string[]; ms: number }> {
  const begun = performance.now()
  for (;;) {
    const left = await world.mismatches()
    const ms = performance.now() - begun
    if (left.length === 0 || ms > limitMs) return { left, ms }
    await pause(50)
  }
}

/** @returns sessions that should have ended and have not when the time is over: their ends come from other processes */
async function leftAfter(world: World, ends: (held: Held) => boolean, limitMs: number): Promise<string[]> {
  const begun = performance.now()
  for (;;) {
    const left = world.held.filter((each) => !each.ended && ends(each))
    if (left.length === 0 || performance.now() - begun > limitMs) return left.map(({ gate, laptop }) => `${gate.name} holds a session of ${laptop.device.uid.slice(0, 8)}`)
    await pause(50)
  }
}

interface Game {
  readonly world: World
  readonly fault: Fault
  /** How many changes. */
  readonly flips: number
  readonly random: () => number
  /** Times the limit in time: 1 is the promise; more where a busy machine must not fail what is right. */
  readonly patience?: number
  readonly onRound?: (done: number) => void
}

export async function play({ world, fault, flips, random, patience = 1, onRound = () => {} }: Game): Promise<Played> {
  const violations: string[] = []
  let slowestMs = 0
  let done = 0
  let rounds = 0
  while (done < flips) {
    rounds++
    await world.holdSessions()
    await fault.begin(world, random)
    for (let n = 0; n < Math.min(flipsARound(flips), flips - done); n++) {
      world.laptops[Math.floor(random() * world.laptops.length)]?.flip()
      // Some pile up, some are told one by one.
      if (fault.deaf !== true && random() < 0.5) await settle(world, 300)
      else await pause(random() * 20)
    }
    done += flipsARound(flips)
    if (fault.outlastsStaleness === true) {
      await pause(STALE_AFTER_MS)
      violations.push(...(await leftAfter(world, () => true, 1_000 * patience)).map((each) => `${each} for longer than its staleness contract`))
    }
    if (fault.learns === true) {
      if (!await settle(world, 10_000 * patience)) violations.push(`a report was not taken during ${fault.name}`)
      const { left, ms } = await converge(world, LEARNT_MS * patience)
      slowestMs = Math.max(slowestMs, ms)
      violations.push(...left.map((each) => `during ${fault.name} ${each}`))
    }
    await fault.end(world)
    const ended = performance.now()
    // A report follows: what a laptop has not had answered it repeats.
    const reports = async () => {
      for (let first = true; ; first = false) {
        for (const laptop of world.laptops) laptop.flush(first && fault.forgets)
        if (await settle(world, 1_000) || performance.now() - ended > 10_000 * patience) return
      }
    }
    if (fault.quiet !== true) await reports()
    if (!await settle(world, 10_000 * patience)) violations.push(`a report was not taken in time after the end of ${fault.name}`)
    const { left } = await converge(world, limitOf(fault) * patience - (fault.deaf === true ? 0 : performance.now() - ended))
    slowestMs = Math.max(slowestMs, performance.now() - ended)
    violations.push(...left)
    violations.push(...(await leftAfter(world, ({ laptop }) => !laptop.healthy(), 1_000 * patience)).map((each) => `${each} still, which is not healthy`))
    world.held.splice(0, world.held.length, ...world.held.filter((each) => !each.ended))
    onRound(Math.min(done, flips))
    if (violations.length > 0) break
  }
  return { fault: fault.name, flips: Math.min(done, flips), rounds, violations, slowestMs: Math.round(slowestMs) }
}
