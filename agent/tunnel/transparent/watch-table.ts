// Notices when another program takes the agent's table out of the packet filter, as a firewall does that loads its rules anew: until it is
// back, what is protected goes out as if there were no agent. It puts nothing back.
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Timers } from '../../../node/timers.ts'
import { TABLE } from './redirect.ts'

export interface TableWatch { stop(): void }

/** One reload deletes much at once. */
const SETTLE_MS = 100
const AGAIN_AFTER_MS = 15_000

/** @param onGone told after any deletion in the table, by the agent itself too; also when the watch begins anew, for what was missed */
export function watchTable({ onGone, timers }: { onGone: () => void; timers: Timers }): TableWatch {
  let cancel = () => {}
  let stop = () => {}
  let stopped = false
  const later = () => {
    cancel()
    cancel = timers.after(SETTLE_MS, onGone)
  }
  function watch(): void {
    // Left behind by a kill, it ends at the next event: nobody reads what it says.
    const child = spawn('nft', ['monitor', 'destroy'], { env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C.UTF-8' }, stdio: ['ignore', 'pipe', 'ignore'] })
    const lines = createInterface({ input: child.stdout })
    lines.on('line', (line) => {
      if (line.includes(TABLE)) later()
    })
    const again = () => {
      if (stopped) return
      cancel()
      cancel = timers.after(AGAIN_AFTER_MS, () => {
        watch()
        onGone()
      })
    }
    child.once('error', again)
    child.once('exit', again)
    stop = () => child.kill()
  }
  watch()
  return {
    stop() {
      stopped = true
      cancel()
      stop()
    },
  }
}
