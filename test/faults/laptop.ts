// A laptop of the fault tests: really enrolled, with the agent's own reporter, and sessions that it holds open at every gateway. What it is in truth is known here.
import { systemTimers } from '../../node/timers.ts'
import { createTroubles } from '../../agent/troubles.ts'
import { createReporter, type Reporter } from '../../agent/telemetry/reporter.ts'
import { enrolDevice, type Device } from '../../bench/device.ts'
import { silentLog } from '../../node/logging.ts'
import { Fault } from '../../protocol/faults.ts'
import { report } from '../../protocol/operations/endpoint.ts'

export interface Laptop {
  readonly device: Device
  /** What it is in truth. */
  healthy(): boolean
  /** Changes it and has it reported; resolves at once. */
  flip(): void
  /** Resolves when the EMS has taken the newest report. */
  settled(): Promise<void>
  /** Reports. @param forgotten whether the EMS may no longer hold what it took */
  flush(forgotten?: boolean): void
  close(): Promise<void>
}

const os = { type: 'linux' as const, name: 'Debian GNU/Linux', version: '12.8', kernel: '6.1', architecture: 'x64' }

export async function startLaptop({ ems, tlsCaPem, invitation, conditionKey, onDefect }: { ems: string; tlsCaPem: string; invitation: string; conditionKey: string; onDefect: (cause: unknown) => void }): Promise<Laptop> {
  const device = await enrolDevice({ ems, tlsCaPem, invitation, conditionKey })
  const log = silentLog()
  let state = { sequence: 0, answers: {} }
  let healthy = true
  let version = 0
  let taken = -1
  let waiting: { version: number; resolve: () => void }[] = []
  const tellTaken = (upTo: number) => {
    taken = Math.max(taken, upTo)
    for (const each of waiting) if (each.version <= taken) each.resolve()
    waiting = waiting.filter((each) => each.version > taken)
  }
  let lastSent: unknown = null
  const reporter: Reporter = createReporter({
    state: {
      sequence: () => state.sequence, answers: () => state.answers,
      keep(change) {
        state = { ...state, ...change }
        return Promise.resolve()
      },
    },
    now: Date.now, timers: systemTimers, troubles: createTroubles(log, Date.now), log, onSent: () => {}, onVersions: () => {}, onDefect,
    onFault: (fault: Fault) => Promise.resolve(fault.code === 'deregistered' ? 'stop' as const : 'later' as const),
    async send(body) {
      const carried = version
      const reply = await device.client.call(report, { body })
      // Taken is what the EMS holds: it asks for nothing, and what was sent or known is this version.
      if (reply.wanted.length === 0) tellTaken(carried)
      lastSent = reply
      return reply
    },
  })
  const hold = () => reporter.hold('verdicts', { answers: { [conditionKey]: { value: healthy ? 'true' : 'false', seen: healthy ? 'running' : 'not running', at: version } } })
  hold()
  reporter.hold('os', os)
  reporter.flush()
  return {
    device,
    healthy: () => healthy,
    flip() {
      healthy = !healthy
      version++
      hold()
    },
    settled: () => (taken >= version && lastSent !== null ? Promise.resolve() : new Promise((resolve) => { waiting.push({ version, resolve }) })),
    flush(forgotten = false) {
      if (forgotten) taken = -1
      reporter.flush()
    },
    async close() {
      await reporter.close()
      await device.close()
    },
  }
}

