// A gateway asks for one endpoint that it does not know: the record, or that there is none. One that sees its own endpoints only sees this one from now on.
import type { ToGateway } from '../protocol/fabric/notify.ts'
import { smallRecords } from '../schema/queries/follow-log.ts'
import { sysinfoBodies } from '../workers/flows/report-bodies.ts'
import { subscribe } from '../workers/flows/subscriptions.ts'
import type { Follower, Heard } from './follower.ts'
import { entryOf } from './log-entry.ts'
import { gatedSysinfo, tells, uidTagsOf } from './notices.ts'

/** @returns the answer, and the gateways whose sight has changed by it */
export async function lookUp(follower: Follower, serial: string, uid: string, protocol: string): Promise<{ found: ToGateway; rescoped: string[] }> {
  const { settings, view, db, store } = follower
  const none = { found: { type: 'found', uid, sysinfo: null, tags: null } as const, rescoped: [] }
  // What selected gateways see is theirs to say: this one can't reach beyond it.
  if (settings === null || (settings.shareMode === 2 && !store.inScope(uid))) return none
  const [bodies, [row]] = await Promise.all([sysinfoBodies(db, [uid]), smallRecords(db, [uid])])
  const record = bodies.get(uid)
  if (record === undefined || row === undefined) return none
  const isNew = settings.shareMode === 0 && !store.inScope(uid)
  return {
    found: { type: 'found', uid, sysinfo: gatedSysinfo(record, protocol), tags: tells('uid_tags', protocol) ? uidTagsOf(entryOf(row), row.lastReportAt ?? 0, view) : null },
    rescoped: isNew ? (await subscribe(db, [serial], { added: [uid], removed: [], isSnapshot: false })).concerned : [],
  }
}

/** Look-ups that wait for the records. A change that is told meanwhile overtakes the answer: sent after it, it would put the gateway back to what was before. */
export class OpenLookUps {
  readonly #open = new Set<{ readonly uid: string; overtaken: boolean }>()

  heard(heard: Heard): void {
    for (const each of this.#open) if (heard.kind !== 'told' || heard.rows.some(({ uid }) => uid === each.uid)) each.overtaken = true
  }
  /** Reads again until nothing came between, then sends, in the same tick. */
  async answer<T>(uid: string, read: () => Promise<T>, send: (found: T) => void): Promise<T> {
    for (;;) {
      const mine = { uid, overtaken: false }
      this.#open.add(mine)
      try {
        const found = await read()
        if (mine.overtaken) continue
        send(found)
        return found
      } finally {
        this.#open.delete(mine)
      }
    }
  }
}
