// Works off what is due: endpoints whose rules changed, or whose verdicts change by time alone. One object; its alarm is its only clock.
import { DurableObject } from 'cloudflare:workers'
import type { Env } from '../workers/env.ts'
import { reEvaluateSome } from '../workers/flows/re-evaluate.ts'

/** When something failed: the alarm sets itself anew and never throws, for the platform gives up after six retries. */
const RETRY_MS = 5_000

export class ReEvaluation extends DurableObject<Env> {
  /** Rules changed: begin now. */
  async start(): Promise<void> {
    await this.ctx.storage.setAlarm(Date.now())
  }

  /** Something falls due at that instant (ms). */
  async due(at: number): Promise<void> {
    const set = await this.ctx.storage.getAlarm()
    if (set === null || at < set) await this.ctx.storage.setAlarm(at)
  }

  override async alarm(): Promise<void> {
    await this.ctx.storage.setAlarm(Date.now() + RETRY_MS)
    try {
      const next = await reEvaluateSome(this.env, Date.now())
      if (next === null) await this.ctx.storage.deleteAlarm()
      else await this.ctx.storage.setAlarm(next)
    } catch (cause) {
      console.log(JSON.stringify({ event: 're-evaluation-failed', at: new Date().toISOString(), cause: cause instanceof Error ? cause.message : String(cause), retryMs: RETRY_MS }))
    }
  }
}
