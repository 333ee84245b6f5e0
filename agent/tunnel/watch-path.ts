// Notices that the machine has slept or is on another network, by two clocks and its addresses. It mends nothing.
import { networkInterfaces } from 'node:os'
import type { Timers } from '../../node/timers.ts'

export interface PathWatch { close(): void }

/** Told with all addresses that this machine has now, loopback's among them. */
export type OnPathChange = (addresses: ReadonlySet<string>) => void

// Polled: every system has it, nothing needs to be spawned or kept alive, and one look costs some 50 µs.
const lookEveryMs = 2_000
/** A busy machine is late, a clock is corrected by a little; neither is a sleep. */
const gapMs = 5_000

/** `fe80::1%eth0` and `fe80::1` are one address. */
export const withoutZone = (address: string): string => address.split('%', 1)[0] ?? address

/** Every address, by interface. */
export const machineAddresses = (): string[] => Object.entries(networkInterfaces()).flatMap(([name, each]) => (each ?? []).map(({ address }) => `${name} ${address}`))

/**
 * Looks every two seconds.
 * @param wall a clock that goes on while the machine sleeps, ms
 * @param steady one that nobody sets; on Linux it stands still meanwhile
 * @param addresses `interface address`, one for each
 */
export function watchPath({ timers, onChange, wall = Date.now, steady = () => performance.now(), addresses = machineAddresses }: {
  timers: Timers; onChange: OnPathChange; wall?: () => number; steady?: () => number; addresses?: () => string[]
}): PathWatch {
  const look = () => ({ wall: wall(), steady: steady(), addresses: addresses().sort() })
  let before = look()
  let cancel = () => {}
  const lookLater = () => {
    cancel = timers.after(lookEveryMs, () => {
      const after = look()
      const [passed, meant] = [after.wall - before.wall, after.steady - before.steady]
      // Stopped as a whole, the process sees both clocks jump; asleep, only the wall's.
      const hasSlept = passed - meant > gapMs || meant > lookEveryMs + gapMs
      const hasMoved = after.addresses.join() !== before.addresses.join()
      before = after
      if (hasSlept || hasMoved) onChange(new Set(after.addresses.map((each) => withoutZone(each.split(' ')[1] ?? ''))))
      lookLater()
    })
  }
  lookLater()
  return { close: () => cancel() }
}
