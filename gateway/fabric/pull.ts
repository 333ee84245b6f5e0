// Reads a table to its end, page by page, and goes on where it was interrupted. A whole reload becomes visible at its end only, and not at all when it can't be right.
import type { ControlClient } from '../../node/control-client.ts'
import type { Log } from '../../node/logging.ts'
import { Fault } from '../../protocol/faults.ts'
import type { ChangeCause } from '../world.ts'
import type { Replica } from './replica.ts'
import type { Cursor, Page, PagedTable } from './tables.ts'

export interface TablePull {
  /** Reads until nothing is left. Throws the `Fault` of a page that could not be had; called again, it goes on there. */
  run(cause: ChangeCause): Promise<void>
  /** Begins at the beginning next time. */
  restart(): void
}

interface Options<F> {
  readonly table: PagedTable<F>
  readonly client: ControlClient
  readonly replica: Replica
  /** How many endpoints are held of this table. */
  readonly heldCount: () => number
  readonly log: Log
}

/** A reload that drops more than this share of what is held is read a second time before it is believed. */
const DOUBTFUL_SHARE = 0.5

export function createTablePull<F>({ table, client, replica, heldCount, log }: Options<F>): TablePull {
  let cursor: Cursor | null = null
  let whole: Map<string, F> | null = null
  let names = new Map<string, string>()
  /** UIDs of a reload that was doubted; the next one must say the same. */
  let doubted: ReadonlySet<string> | null = null
  /** Raised by each restart: a page that was asked for before it must not be applied after it. */
  let era = 0

  const restart = () => {
    era++
    cursor = { watermark: '' }
    whole = null
    names = new Map()
  }

  /** An empty or shrunken answer of a failing EMS would shut everybody out; told twice, it is its word. */
  function refuseDoubtful(rows: ReadonlyMap<string, F>): void {
    const held = heldCount()
    if (rows.size >= held * DOUBTFUL_SHARE || (doubted?.size === rows.size && [...rows.keys()].every((uid) => doubted?.has(uid)))) {
      doubted = null
      return
    }
    doubted = new Set(rows.keys())
    restart()
    log.warn({ event: 'reload-doubted', table: table.name, endpoints: rows.size, held }, 'The EMS told of far fewer endpoints than before; what is held stays until a second reading says the same.')
    throw new Fault('busy', 'A reload that drops most endpoints is read again before it is believed.')
  }

  function applyPage(page: Page<F>, cause: ChangeCause): void {
    if (page.isSnapshot) {
      whole = new Map()
      names = new Map()
    }
    if (whole === null) {
      replica.commit((draft) => {
        for (const [uid, facts] of page.rows) table.change(draft, uid, facts)
        draft.moreTagNames(page.tagNames)
        if (page.isFinal) draft.hold(table.name, page.next.watermark)
      }, cause)
    } else {
      for (const [uid, facts] of page.rows) {
        if (facts === null) whole.delete(uid)
        else whole.set(uid, facts)
      }
      for (const [uid, name] of page.tagNames) names.set(uid, name)
      if (!page.isFinal) return
      const rows = whole
      refuseDoubtful(rows)
      replica.commit((draft) => {
        table.replace(draft, rows)
        draft.moreTagNames(names)
        draft.hold(table.name, page.next.watermark)
      }, cause)
      whole = null
    }
  }

  return {
    restart,
    async run(cause) {
      const began = era
      cursor ??= { watermark: replica.state().held[table.name] }
      for (;;) {
        const page: Page<F> = await table.read(client, cursor)
        if (era !== began) return
        applyPage(page, cause)
        cursor = page.isFinal ? null : page.next
        if (cursor === null) return
      }
    },
  }
}
