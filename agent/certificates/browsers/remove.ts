// Takes everything back from browsers: certificates, keys, policies. Repeated until it is done, also by the next start after a crash.
import type { Log } from '../../../node/logging.ts'
import { Fault } from '../../../protocol/faults.ts'
import { sentenceFor, systemFailure } from '../../failure.ts'
import { isIssued, readRecord, removeRecord, writeRecord, type BrowserRecord, type KeptStore } from './browser-record.ts'
import { nameFor, StoreFailure, type BrowserStores } from './browser-store.ts'
import { storesHere, type Place } from './stores-here.ts'

/** What may go wrong there without the agent being defective. */
export const isExpected = (cause: unknown): boolean => cause instanceof StoreFailure || cause instanceof Fault || systemFailure(cause) !== null

/** Takes back what one store holds. Throws a `StoreFailure`. */
export async function removeFromStore(stores: BrowserStores, { directory, current, next }: KeptStore, name: string): Promise<void> {
  const store = stores.open(directory)
  const known = [current, ...(next === null ? [] : [next])].filter(isIssued).map(({ keyId }) => keyId)
  for (const keyId of new Set([...known, ...await store.named(name)])) await store.remove(keyId)
}

/**
 * Takes back what the record says; nothing when there is none.
 * @returns sentences on what is still there; then the record stays, for the next attempt
 */
export async function removeFromBrowsers(stateDirectory: string, storesOf: (ownerUid: number) => Promise<BrowserStores>): Promise<string[]> {
  const record = await readRecord(stateDirectory)
  if (record === null) return []
  try {
    return await removeRecorded(stateDirectory, record, await storesOf(record.ownerUid))
  } catch (cause) {
    if (!isExpected(cause)) throw cause
    return [sentenceFor(cause)]
  }
}

async function removeRecorded(stateDirectory: string, record: BrowserRecord, stores: BrowserStores): Promise<string[]> {
  const failures: string[] = []
  const left: KeptStore[] = []
  for (const kept of record.stores) {
    try {
      await removeFromStore(stores, kept, nameFor(record.uid))
    } catch (cause) {
      if (!isExpected(cause)) throw cause
      failures.push(sentenceFor(cause))
      left.push(kept)
    }
  }
  failures.push(...await stores.select(record.uid, []))
  if (failures.length === 0) await removeRecord(stateDirectory)
  else await writeRecord(stateDirectory, { ...record, stores: left })
  return failures
}

/** What browsers hold goes when the machine is let go; what can't be reached is said and tried again by the next start. */
export async function letGoOfBrowsers({ stateDirectory, root = '/', home, log }: { stateDirectory: string; log: Log } & Partial<Pick<Place, 'root' | 'home'>>): Promise<void> {
  const left = await removeFromBrowsers(stateDirectory, (ownerUid) => storesHere({ ownerUid, root, home }))
  if (left.length > 0) log.error({ event: 'browsers-not-cleared', reason: left.join(' ') }, 'A browser still holds a certificate, which is no longer valid; the next start of the agent tries again to take it away.')
}
