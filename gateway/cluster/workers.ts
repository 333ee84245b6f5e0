// The primary's side: keeps so many workers, hands each the same steps of the snapshot in order, and knows when all have applied them.
import cluster, { type Worker } from 'node:cluster'
import { fileURLToPath } from 'node:url'
import { emptySnapshot, type Snapshot } from '../../domain/access/snapshot.ts'
import { jitteredBackoff } from '../../node/backoff.ts'
import type { Log } from '../../node/logging.ts'
import type { Proved } from '../../domain/access/identify.ts'
import type { Timers } from '../../node/timers.ts'
import type { ChangeCause, Changed, World } from '../world.ts'
import { nodeFlags } from '../node-flags.ts'
import type { FromWorker, Shared, ToWorker, WorkerSetting } from './messages.ts'
import { inParts, recordChanges } from './snapshot-step.ts'

export interface WorkersOptions {
  readonly count: number
  readonly setting: Omit<WorkerSetting, 'slot' | 'shared'>
  readonly shared: () => Shared
  readonly world: World
  readonly timers: Timers
  readonly log: Log
  readonly onProved?: (peer: Proved, address: string) => () => void
}
export interface Workers {
  readonly port: number
  /** Resolves when every worker has applied what the world says now. */
  applied(): Promise<void>
  /** Tells all of them what {@link WorkersOptions.shared} is now. */
  share(): void
  /** What each of them counts, in the form that is summed. */
  measure(): Promise<readonly (readonly object[])[]>
  drain(graceMs: number): Promise<void>
  close(): Promise<void>
}

interface Slot {
  readonly number: number
  worker: Worker
  /** The snapshot that it was told last. */
  told: Snapshot
  sent: number
  applied: number
  readonly connections: Map<number, () => void>
}

const PART = 1_000
const MEASURE_MS = 2_000
const START_MS = 30_000

/** Starts workers; resolves when each listens. Throws when one can't. */
export async function startWorkers({ count, setting, shared, world, timers, log, onProved }: WorkersOptions): Promise<Workers> {
  cluster.setupPrimary({ exec: fileURLToPath(new URL('worker.ts', import.meta.url)), execArgv: [...nodeFlags], args: [], serialization: 'advanced', silent: false })
  const slots: Slot[] = []
  /** Where they listen; workers that ask for the same port, 0 too, share one listener of this process. */
  let { port } = setting.listen
  let closing = false
  let failures = 0
  let waiting: { readonly resolve: () => void; readonly steps: ReadonlyMap<Slot, number> }[] = []
  const measuring = new Map<number, (metrics: readonly object[]) => void>()
  let questions = 0
  const draining = new Set<Slot>()
  let onDrained = () => {}

  const say = ({ worker }: Slot, message: ToWorker): void => {
    // A worker that is ending takes nothing more, and its place is filled when it has.
    if (worker.isConnected()) worker.send(message)
  }
  /** Whoever waits for workers that have ended waits for no answer of theirs. */
  function settle(): void {
    waiting = waiting.filter(({ resolve, steps }) => {
      const open = [...steps].some(([slot, step]) => slots.includes(slot) && slot.applied < step)
      if (!open) resolve()
      return open
    })
  }

  function tell(slot: Slot, changed: Changed, cause: ChangeCause): void {
    const next = world.snapshot()
    const parts = [...inParts(recordChanges(slot.told, next), PART)]
    const last = parts.pop() ?? []
    for (const records of parts) say(slot, { do: 'part', records })
    const tagNames = next.tagNames === slot.told.tagNames ? {} : { tagNames: next.tagNames }
    slot.told = next
    say(slot, { do: 'change', step: ++slot.sent, records: last, revision: next.revision, currentAt: next.currentAt, ...tagNames, changed, cause })
  }

  function heed(slot: Slot, message: FromWorker): void {
    switch (message.event) {
      case 'applied':
        slot.applied = message.step
        settle()
        return
      case 'lookup':
        // What was found has gone to every worker before this answer does.
        void world.lookup(message.uid).then((answered) => say(slot, { do: 'answer', question: message.question, answered }))
        return
      case 'measured':
        measuring.get(message.question)?.(message.metrics)
        return
      case 'proved':
        if (onProved !== undefined) slot.connections.set(message.connection, onProved(message.peer, message.address))
        return
      case 'gone':
        slot.connections.get(message.connection)?.()
        slot.connections.delete(message.connection)
        return
      case 'cut':
        for (const other of slots) if (other !== slot) say(other, { do: 'cut', session: message.session, denied: message.denied })
        return
      case 'drained':
        draining.delete(slot)
        if (draining.size === 0) onDrained()
        return
      default:
    }
  }

  /** Forks one worker; resolves when it listens. */
  function fork(number: number): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const slot: Slot = { number, worker: cluster.fork(), told: emptySnapshot, sent: 0, applied: 0, connections: new Map() }
    const { worker } = slot
    const stop = timers.after(START_MS, () => worker.kill('SIGKILL'))
    let listening = false
    let reason = 'it ended before it listened'
    worker.on('message', (message: FromWorker) => {
      if (message.event === 'ready') {
        slots.push(slot)
        tell(slot, 'all', {})
        say(slot, { do: 'start', setting: { ...setting, slot: number, shared: shared() } })
      } else if (message.event === 'listening') {
        stop()
        listening = true
        ;({ port } = message)
        resolve()
      } else if (message.event === 'failed') ({ reason } = message)
      else heed(slot, message)
    })
    worker.on('error', (error) => log.error({ event: 'worker-error', slot: number, reason: error.message }, 'A worker could not be spoken to.'))
    worker.once('exit', (code: number) => {
      stop()
      const at = slots.indexOf(slot)
      if (at !== -1) slots.splice(at, 1)
      for (const gone of slot.connections.values()) gone()
      if (draining.delete(slot) && draining.size === 0) onDrained()
      settle()
      if (!listening) reject(new Error(`worker ${number} did not start: ${reason}`))
      else if (!closing) replace(number, worker.process.signalCode ?? String(code))
    })
    return promise
  }
  function replace(number: number, how: string): void {
    log.error({ event: 'worker-ended', slot: number, how }, 'A worker has ended; another takes its place.')
    timers.after(jitteredBackoff(failures++, { firstMs: 100, limitMs: 10_000 }), () => {
      if (closing) return
      fork(number).then(() => {
        failures = 0
      }, (cause: Error) => replace(number, cause.message))
    })
  }

  const leaveWorld = world.onChange((changed, cause) => {
    for (const slot of slots) tell(slot, changed, cause)
  })
  const close = async () => {
    closing = true
    leaveWorld()
    await Promise.all(Object.values(cluster.workers ?? {}).map(async (worker) => {
      if (worker === undefined || worker.isDead()) return
      const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()))
      const slot = slots.find((each) => each.worker === worker)
      const stop = timers.after(5_000, () => worker.kill('SIGKILL'))
      if (slot === undefined) worker.kill('SIGKILL')
      else say(slot, { do: 'close' })
      await ended
      stop()
    }))
  }
  try {
    await Promise.all(Array.from({ length: count }, (_, at) => fork(at + 1)))
  } catch (cause) {
    await close()
    throw cause
  }
  return {
    port,
    applied() {
      const { promise, resolve } = Promise.withResolvers<void>()
      waiting.push({ resolve, steps: new Map(slots.map((slot) => [slot, slot.sent])) })
      settle()
      return promise
    },
    share() {
      for (const slot of slots) say(slot, { do: 'share', shared: shared() })
    },
    async measure() {
      const asked = await Promise.all(slots.map(async (slot) => {
        const { promise, resolve } = Promise.withResolvers<readonly object[]>()
        const question = ++questions
        measuring.set(question, resolve)
        const stop = timers.after(MEASURE_MS, () => resolve([]))
        say(slot, { do: 'measure', question })
        const measured = await promise
        stop()
        measuring.delete(question)
        return measured
      }))
      return asked
    },
    async drain(graceMs) {
      closing = true
      for (const slot of slots) draining.add(slot)
      if (draining.size === 0) return
      const { promise, resolve } = Promise.withResolvers<void>()
      onDrained = resolve
      for (const slot of slots) say(slot, { do: 'drain', graceMs })
      await promise
    },
    close,
  }
}
