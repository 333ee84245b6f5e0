// The faults, one by one: how each begins, how it ends, and what may follow it.
import { setTimeout as pause } from 'node:timers/promises'
import type { World } from './world.ts'
import { CURRENT_EVERY_MS, STALE_AFTER_MS } from './world.ts'
import { POLL } from './gates.ts'

export interface Fault {
  readonly name: string
  begin(world: World, random: () => number): Promise<void>
  end(world: World): Promise<void>
  /** The EMS can't take a report while it lasts. */
  readonly deaf?: boolean
  /** No report, hello or repeated report follows: the last net is the object's alarm. */
  readonly quiet?: boolean
  /** What the EMS had taken may be gone: laptops must report again. */
  readonly forgets?: boolean
  /** Gateways learn what changes while it lasts, within {@link LEARNT_MS}. */
  readonly learns?: boolean
  /** Longer than the staleness contract: what gateways do meanwhile is checked. */
  readonly outlastsStaleness?: boolean
}

const nothing = async () => {}
/** Bursts are told once a second: what is to be lost must have been sent before the weather clears. */
const TOLD_MS = 1_500
const front = (name: string, weather: Parameters<World['front']['set']>[0], more: Partial<Fault> = {}): Fault => ({
  name, begin: ({ front: before }) => Promise.resolve(before.set(weather)), async end({ front: before }) {
    if (weather !== 'away') await pause(TOLD_MS)
    before.set('fair')
  }, ...more,
})
const pick = <T>(from: readonly T[], random: () => number): T => {
  const found = from[Math.floor(random() * from.length)]
  if (found === undefined) throw new Error('there is nothing to pick from')
  return found
}

export const faults: readonly Fault[] = [
  { name: 'none', begin: nothing, end: nothing },
  { name: 'ems-killed', deaf: true, begin: ({ killEms }) => killEms(), end: ({ startEms }) => startEms() },
  { name: 'gateway-killed', begin: async ({ gates }, random) => { await pick(gates, random).kill() }, end: ({ gates }) => restart(gates) },
  {
    name: 'both-killed', deaf: true,
    begin: async ({ gates, killEms }) => { await Promise.all([...gates.map((gate) => gate.kill()), killEms()]) },
    end: async ({ gates, startEms }) => {
      await startEms()
      await restart(gates)
    },
  },
  { name: 'object-crashed', begin: async ({ gates, weather }) => { for (const gate of gates) await weather({ crash: gate.serial() }) }, end: nothing },
  front('notices-lost', 'lost', { quiet: true }), front('notices-doubled', 'doubled'), front('notices-delayed', 'delayed'), front('notices-swapped', 'swapped', { quiet: true }),
  front('half-open', 'silent', { quiet: true }), front('ems-away', 'away'), front('no-websocket', 'no-websocket', { learns: true }), front('ems-away-for-long', 'away', { outlastsStaleness: true }),
  { name: 'crash-after-frame', begin: ({ weather }) => weather({ crashAfterFrame: 0.3 }), end: ({ weather }) => weather({ crashAfterFrame: 0 }) },
  { name: 'database-errors', begin: ({ weather }) => weather({ database: 0.4 }), end: ({ weather }) => weather({ database: 0 }) },
  { name: 'database-slow', begin: ({ weather }) => weather({ databaseMs: 700 }), end: ({ weather }) => weather({ databaseMs: 0 }) },
  { name: 'pokes-lost', quiet: true, begin: ({ weather }) => weather({ pokesLost: true }), end: ({ weather }) => weather({ pokesLost: false }) },
  { name: 'database-restored', forgets: true, begin: ({ keepCopy }) => keepCopy(), end: ({ restoreCopy }) => restoreCopy() },
  { name: 'clock-ahead', begin: ({ gates }) => Promise.resolve(gates.forEach((gate) => gate.setClock(3_600_000))), end: ({ gates }) => Promise.resolve(gates.forEach((gate) => gate.setClock(0))) },
  { name: 'clock-behind', begin: ({ gates }) => Promise.resolve(gates.forEach((gate) => gate.setClock(-3_600_000))), end: ({ gates }) => Promise.resolve(gates.forEach((gate) => gate.setClock(0))) },
]

async function restart(gates: World['gates']): Promise<void> {
  for (const gate of gates) {
    await gate.kill()
    await gate.start()
  }
}

/** Without a websocket, until a gateway asks and has read. */
export const LEARNT_MS = POLL.afterMs + POLL.everyMs + 5_000
/** How long after a fault's end all must be as it is true, ms. */
export const limitOf = ({ quiet }: Fault): number => (quiet === true ? CURRENT_EVERY_MS + 5_000 : 5_000)
export { STALE_AFTER_MS }
