// Works off what is due: endpoints whose rules changed, or whose verdicts change by time alone. One object; its alarm is its only clock.
import { DurableObject } from 'cloudflare:workers'
import { makeContext } from '../workers/context.ts'
import { readConfig, type Env } from '../workers/env.ts'
import { atRest, reEvaluate, type Standing } from '../workers/flows/re-evaluate.ts'
import { renewInventories } from '../workers/flows/renew-inventories.ts'

/** When something failed: the alarm sets itself anew and never throws, for the platform gives up after six retries. */
const RETRY_MS = 5_000

/** Where no inventory was behind, so many steps for the rules go by before that is asked again: it costs as many questions as a page. What a report brings is asked for at once. */
const STEPS_BETWEEN = 8

/** How far the last edit of the rules has come. */
export interface Progress {
  /** Revision of the rules that it is for; 0: none yet. */
  readonly revision: number
  readonly total: number
  readonly done: number
  readonly since: number | null
  /** Endpoints that could not be settled and wait to be tried again. */
  readonly aside: number
}

export class ReEvaluation extends DurableObject<Env> {
  /** The earliest instant asked for while a step is at work: what it finds at its end may be older. */
  #asked: number | null = null
  #working = false
  /** Endpoints behind the rules and inventories behind the advisories take turns: each has the queries of an invocation to itself. */
  #inventoriesFirst = false
  #stepsToGo = 0

  /** Rules changed: begin now. `tell`: gateways did not acknowledge the change itself and must be told again. */
  async start(tell = false): Promise<void> {
    if (tell) await this.ctx.storage.put('tell', true)
    this.#stepsToGo = 0
    await this.due(Date.now())
  }

  /** Something falls due at that instant (ms). */
  async due(at: number): Promise<void> {
    if (this.#working) this.#asked = Math.min(this.#asked ?? at, at)
    const set = await this.ctx.storage.getAlarm()
    if (set === null || at < set) await this.ctx.storage.setAlarm(at)
  }

  async progress(): Promise<Progress> {
    const { round, aside } = await this.#standing()
    return { revision: round?.revision ?? 0, total: round?.total ?? 0, done: round?.done ?? 0, since: round?.since ?? null, aside: Object.keys(aside).length }
  }

  override async alarm(): Promise<void> {
    await this.ctx.storage.setAlarm(Date.now() + RETRY_MS)
    this.#working = true
    this.#asked = null
    try {
      const next = earliest(await this.#step(), this.#asked)
      if (next === null) await this.ctx.storage.deleteAlarm()
      else await this.ctx.storage.setAlarm(next)
    } catch (cause) {
      console.log(JSON.stringify({ event: 're-evaluation-failed', at: new Date().toISOString(), cause: cause instanceof Error ? cause.message : String(cause), retryMs: RETRY_MS }))
    } finally {
      this.#working = false
    }
  }

  async #standing(): Promise<Standing> { return await this.ctx.storage.get<Standing>('standing') ?? atRest }
  /** What was done is remembered: after a crash it goes on from there. */
  async #step(): Promise<number | null> {
    const context = makeContext(this.env, readConfig(this.env), new Request('https://object/'), { waitUntil: (promise) => { this.ctx.waitUntil(promise) } })
    if (this.#inventoriesFirst) {
      this.#inventoriesFirst = false
      if (await renewInventories(context) !== null) return Date.now()
      this.#stepsToGo = STEPS_BETWEEN
    }
    const before = await this.#standing()
    const owed = before.owed ?? (await this.ctx.storage.get('tell') === true ? Date.now() : null)
    // Kept before the mark is taken away: a crash in the middle forgets nobody.
    if (owed !== null) await this.ctx.storage.put('standing', { ...before, owed })
    await this.ctx.storage.delete('tell')
    const { standing, busy, next } = await reEvaluate(context, { ...before, owed }, Date.now())
    await this.ctx.storage.put('standing', standing)
    this.#inventoriesFirst = busy && --this.#stepsToGo < 0
    return busy ? next : earliest(next, await renewInventories(context))
  }
}

const earliest = (a: number | null, b: number | null): number | null => (a === null || b === null ? a ?? b : Math.min(a, b))
