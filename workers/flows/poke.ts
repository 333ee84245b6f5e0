// Tells the objects of the gateways concerned what the log says now, and waits for their acknowledgement.
import { readLogRow, type LogRow, type Poke, type StoredLogRow } from '../../durable-objects/log-entry.ts'
import type { SysinfoRecord } from '../../protocol/fabric/tables.ts'
import { Fault } from '../../protocol/faults.ts'
import type { Concerned } from '../../schema/queries/interest.ts'
import type { Context } from '../context.ts'

/** How long an acknowledgement may take before the caller is told to come again; the commit stands. */
export const ACKNOWLEDGED_WITHIN_MS = 2_000
const MAX_POKE_BYTES = 64 * 1024

/**
 * One object call per gateway, in parallel.
 * @param tail rows of the log, newest first, as the commit's own batch read them
 */
export async function pokeGateways(context: Context, concerned: readonly Concerned[], tail: readonly StoredLogRow[], sysinfo: Record<string, SysinfoRecord> = {}): Promise<void> {
  if (concerned.length === 0 || tail.length === 0) return
  const rows = bounded(tail.map(readLogRow)).reverse()
  const pokes = concerned.map(async ({ serial }) => {
    const poke: Poke = { tail: rows, sysinfo }
    await context.env.FCM_NOTIFY.getByName(serial).poke(serial, poke)
  })
  let timer: ReturnType<typeof setTimeout> | null = null
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => { reject(new Error(`not acknowledged within ${ACKNOWLEDGED_WITHIN_MS} ms`)) }, ACKNOWLEDGED_WITHIN_MS)
  })
  try {
    await Promise.race([Promise.all(pokes), late])
  } catch (cause) {
    throw new Fault('busy', 'It has been taken, but not every gateway has been told yet; send it again.', { cause, retryAfterSeconds: 1 })
  } finally {
    clearTimeout(timer)
  }
}

/** The newest rows that fit; what is cut off the objects read from the log. */
function bounded(rows: LogRow[]): LogRow[] {
  let bytes = 0
  return rows.filter((row) => {
    const body = row.entry ?? row.sights
    bytes += 200 + (body === null ? 0 : JSON.stringify(body).length)
    return bytes <= MAX_POKE_BYTES
  })
}
