// Why sessions were cut that had no place for a reason: kept a while for the device that asks. It is no record; the journal is.
import type { Decision } from '../../protocol/decisions.ts'

export interface Cuts {
  /** @param admitted the decision that had let the session in */
  remember(admitted: Decision, denied: Decision): void
  /** The decision that cut a session of this device; null: none is remembered. */
  find(session: string, uid: string): Decision | null
}

const MAX_REMEMBERED = 4_096

export function createCuts(): Cuts {
  /** In order of insertion. */
  const cut = new Map<string, Decision>()
  return {
    remember({ id }, denied) {
      cut.set(id, denied)
      if (cut.size > MAX_REMEMBERED) cut.delete(cut.keys().next().value ?? '')
    },
    find(session, uid) {
      const denied = cut.get(session)
      return denied?.uid === uid ? denied : null
    },
  }
}
