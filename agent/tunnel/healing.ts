// Mends what a gateway's refusal shows to be wrong with this agent's certificate: a new one is asked for, seldom, and the stream once more. It never asks for what an administrator took away.
import { jitteredBackoff } from '../../node/backoff.ts'
import type { Timers } from '../../node/timers.ts'
import type { Denial } from './denial.ts'
import type { TunnelLog } from './tunnel-log.ts'

export interface Healing {
  /** How many certificates have been issued anew so far: to be read before a stream is asked for. */
  renewals(): number
  /**
   * Renews, where that may help; streams that are refused at once share one renewal.
   * @param before what {@link Healing.renewals} was: a stream that was refused with the old certificate is asked for again with the new one
   * @returns whether the stream should be asked for again
   */
  heal(denial: Denial, before: number): Promise<boolean>
  /** Waits until a gateway that has just asked the EMS about this device, and heard of the old certificate, would ask again. @returns whether that may help */
  settle(denial: Denial): Promise<boolean>
  /** What was asked for again was let through. The pause goes on: a gateway that forgets every minute must not make every minute a renewal. */
  mended(): void
}

/**
 * A certificate that is not among the valid ones, has run out, or is not known there. An unknown device is among them: a renewal has the EMS
 * tell every gateway of it again.
 */
const mendable = new Set(['certificate-revoked', 'certificate-expired', 'certificate-invalid', 'certificate-unknown', 'endpoint-unknown', 'no-certificate', 'no-certificate-manageable'])

/** A gateway that refuses for ever gets a renewal after half a minute, a minute, and so on to one an hour. */
const pauses = { firstMs: 60_000, limitMs: 3_600_000 }
/** A gateway that lost its memory refuses every laptop in the same second. */
const spreadMs = 1_000
/** A gateway that was told of a device is content with that for a second. */
const settleMs = 1_200

/** @param renew false: it could not be, or the EMS refuses */
export function createHealing({ renew, timers, random, log }: { renew: () => Promise<boolean>; timers: Timers; random: () => number; log: TunnelLog }): Healing {
  let under: Promise<boolean> | null = null
  let isPausing = false
  let attempts = 0
  let renewals = 0

  function after(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    timers.after(ms, resolve)
    return promise
  }
  async function once(denial: Denial): Promise<boolean> {
    await after(random() * spreadMs)
    isPausing = true
    timers.after(jitteredBackoff(attempts++, { ...pauses, random }), () => {
      isPausing = false
    })
    const renewed = await renew()
    if (renewed) renewals += 1
    log.info({ event: renewed ? 'healed' : 'not_healed', reason: denial.reason, destination: denial.destination }, renewed ? 'The certificate was issued anew because a gateway refused it' : 'A gateway refuses the certificate, and it could not be issued anew')
    return renewed
  }

  return {
    renewals: () => renewals,
    async heal(denial, before) {
      if (!mendable.has(denial.reason)) return false
      if (renewals > before) return true
      if (under !== null) return await under
      if (isPausing) return false
      under = once(denial).finally(() => {
        under = null
      })
      return await under
    },
    async settle({ reason }) {
      if (!mendable.has(reason)) return false
      await after(settleMs)
      return true
    },
    mended() {
      attempts = 0
    },
  }
}
