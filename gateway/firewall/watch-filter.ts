// Notices when somebody else changes the packet filter. What they changed is found by comparing, not here.
import type { Log } from '../../node/logging.ts'
import type { Timers } from '../../node/timers.ts'
import type { Commands } from './commands.ts'

interface Options {
  readonly commands: Commands
  /** Whether a process is one that we started. */
  readonly isOwn: (pid: number) => boolean
  readonly onForeign: () => void
  readonly timers: Timers
  readonly log: Log
}

const AGAIN_AFTER_MS = 15_000
/** What happens before the monitor has begun would be missed: it is looked once more soon after. */
const BEGUN_AFTER_MS = 1_000

/** Watches until `stop`. */
export function watchFilter({ commands, isOwn, onForeign, timers, log }: Options): { stop(): void } {
  let monitor: { stop(): void } | null = null
  let cancel = () => {}
  let stopped = false
  function watch(): void {
    cancel = timers.after(BEGUN_AFTER_MS, onForeign)
    monitor = commands.follow('nft', ['monitor'], {
      line(text) {
        // The kernel says who committed: `# new generation 12 by process 345 (nft)`. In a container it may count processes otherwise: then we look once more than needed.
        const by = /^# new generation \d+ by process (\d+)/.exec(text)?.[1]
        if ((by !== undefined && !isOwn(Number(by))) || text.startsWith('# ERROR')) onForeign()
      },
      end(why) {
        if (stopped) return
        cancel()
        log.warn({ event: 'filter-unwatched', reason: why }, 'Changes of the packet filter by others are noticed once a minute only, until it is watched again.')
        cancel = timers.after(AGAIN_AFTER_MS, watch)
      },
    })
  }
  watch()
  return {
    stop() {
      stopped = true
      cancel()
      monitor?.stop()
    },
  }
}
