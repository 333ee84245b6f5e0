// One worker: a listener of its own with its share of the connections, and the world as the primary tells it. It ends with its primary.
import { join } from 'node:path'
import { createLog } from '../../node/logging.ts'
import { openAudit } from '../audit/audit.ts'
import { createMetrics } from '../metrics/metrics.ts'
import { openAssertionKeys } from '../proxy/assertion-keys.ts'
import { createCuts } from '../proxy/cuts.ts'
import { openPolicyFile } from '../proxy/policy-store.ts'
import { startProxy } from '../proxy/start.ts'
import { systemTimers } from '../../node/timers.ts'
import { openTraces } from '../traces/traces.ts'
import type { FromWorker, Shared, ToWorker, WorkerSetting } from './messages.ts'
import { createWorkerWorld } from './worker-world.ts'

const now = () => Date.now()
const say = (message: FromWorker): void => void process.send?.(message)
const { world, part, change, answer } = createWorkerWorld(say)

/** Starts serving. @returns takes what the primary says from then on */
async function start({ slot, serial, stateDirectory, policiesFile, listen, limits, logLevel, traces: settings, shared: first }: WorkerSetting) {
  let shared: Shared = first
  const log = createLog({ name: `gateway-${slot}`, level: logLevel })
  const metrics = createMetrics()
  const policies = await openPolicyFile({ path: policiesFile, log })
  const audit = await openAudit({ directory: join(stateDirectory, 'audit', String(slot)), log, now })
  const assertionKeys = await openAssertionKeys({ directory: stateDirectory, now, timers: systemTimers, log, makes: false })
  const traces = await openTraces(settings === null ? null : { ...settings, serial, metrics, log, now })
  const ticketListeners = new Set<() => void>()
  const certificateListeners = new Set<() => void>()
  const following = <T>(listeners: Set<T>) => (listener: T) => {
    listeners.add(listener)
    return () => listeners.delete(listener)
  }
  let connections = 0
  const cuts = createCuts((session, denied) => say({ event: 'cut', session, denied }))
  const proxy = await startProxy({
    world, policies, assertionKeys, serial, stateDirectory, identity: shared.identity, authorities: () => shared.authorities, listen, limits, log, audit, metrics, traces, now, timers: systemTimers,
    alsoRefused: () => shared.alsoRefused, cuts,
    // The primary alone renews both.
    tickets: { keys: () => Buffer.from(shared.tickets), renew: () => {}, onChange: following(ticketListeners), close: () => {} },
    publicCertificate: { current: () => shared.publicCertificate, follow: () => Promise.resolve(), onChange: following(certificateListeners), close: () => {} },
    onProved({ found: _found, ...peer }, address) {
      const connection = ++connections
      say({ event: 'proved', connection, peer, address })
      return () => say({ event: 'gone', connection })
    },
  })
  say({ event: 'listening', port: proxy.port })
  return {
    share(next: Shared): void {
      const before = shared
      shared = next
      if (!Buffer.from(before.tickets).equals(next.tickets)) for (const listener of ticketListeners) listener()
      if (before.publicCertificate?.cert !== next.publicCertificate?.cert) for (const listener of certificateListeners) listener()
      if (before.identity.certPem !== next.identity.certPem) proxy.updateIdentity(next.identity)
      proxy.updateAuthorities()
    },
    async measure(question: number): Promise<void> {
      say({ event: 'measured', question, metrics: await metrics.json() })
    },
    learn: cuts.learn,
    async drain(graceMs: number): Promise<void> {
      await proxy.drain(graceMs)
      say({ event: 'drained' })
    },
    async close(): Promise<void> {
      await proxy.close()
      await traces?.close()
      assertionKeys.close()
      policies.close()
      await audit.close()
      process.exit(0)
    },
  }
}

let running: ReturnType<typeof start> | null = null
const fail = (cause: Error): void => {
  say({ event: 'failed', reason: cause.message })
  process.exitCode = 1
  process.disconnect()
}

process.on('message', (message: ToWorker) => {
  switch (message.do) {
    case 'start':
      running = start(message.setting)
      running.catch(fail)
      return
    case 'part':
      part(message.records)
      return
    case 'change':
      change(message)
      return
    case 'answer':
      answer(message.question, message.answered)
      return
    default:
      running?.then(async (worker) => {
        if (message.do === 'share') worker.share(message.shared)
        else if (message.do === 'cut') worker.learn(message.session, message.denied)
        else if (message.do === 'measure') await worker.measure(message.question)
        else if (message.do === 'drain') await worker.drain(message.graceMs)
        else await worker.close()
      }).catch(fail)
  }
})
// Signals are the primary's: the terminal sends them to both, and this one must not end before it is told.
for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, () => {})
process.on('disconnect', () => process.exit(1))
say({ event: 'ready' })
