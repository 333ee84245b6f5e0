// Follows the kernel's neighbour table: its events as they come, and the whole table now and then, because events can be lost.
import { jitteredBackoff } from '../../node/backoff.ts'
import type { Log } from '../../node/logging.ts'
import type { Timers } from '../../node/timers.ts'
import type { Commands } from './commands.ts'
import { NeighbourTable, readNeighbourEvent, type NeighbourListener } from './neighbour-table.ts'

interface Options {
  readonly commands: Commands
  readonly timers: Timers
  /** ms. */
  readonly now: () => number
  readonly log: Log
  readonly onChange: NeighbourListener
}

export interface Neighbours {
  readonly table: NeighbourTable
  close(): void
}

const LIST_EVERY_MS = 30_000
/** Events between the listing and the monitor's own beginning would be missed: it is listed once more soon after. */
const LIST_AGAIN_MS = 1_000

/** Resolves when the table has been read once. Throws when `ip` can't be run. */
export async function followNeighbours({ commands, timers, now, log, onChange }: Options): Promise<Neighbours> {
  const table = new NeighbourTable(onChange)
  let closed = false
  let failures = 0
  let monitor: { stop(): void } | null = null
  let cancelList = () => {}
  let cancelRestart = () => {}

  async function list(): Promise<void> {
    table.beginListing()
    const { code, output, errors } = await commands.run('ip', ['-s', '-j', 'neigh', 'show'])
    if (code !== 0) throw new Error(`ip neigh show ended with ${code}: ${errors}`)
    if (!closed) table.takeListing(output, now())
  }
  const listAfter = (delayMs: number) => {
    cancelList()
    cancelList = timers.after(delayMs, () => {
      list().then(() => {
        failures = 0
      }, (cause: Error) => log.error({ event: 'neighbours-not-listed', reason: cause.message }, 'The neighbour table could not be read; what was seen ages out.')).finally(() => {
        if (!closed) listAfter(LIST_EVERY_MS)
      })
    })
  }
  function watch(): void {
    monitor = commands.follow('ip', ['monitor', 'neigh'], {
      line(text) {
        const entry = readNeighbourEvent(text)
        if (entry !== null) table.apply(entry, now())
      },
      end(why) {
        if (closed) return
        log.warn({ event: 'neighbours-unwatched', reason: why }, 'The neighbour table is no longer followed by events; it is followed anew.')
        cancelRestart = timers.after(jitteredBackoff(failures++, { firstMs: 500, limitMs: 15_000 }), () => {
          watch()
          listAfter(LIST_AGAIN_MS)
        })
      },
    })
  }

  watch()
  try {
    await list()
  } catch (cause) {
    close()
    throw cause
  }
  listAfter(LIST_AGAIN_MS)
  function close(): void {
    closed = true
    cancelList()
    cancelRestart()
    monitor?.stop()
  }
  return { table, close }
}
