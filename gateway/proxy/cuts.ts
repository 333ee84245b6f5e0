// Why sessions were cut that had no place for a reason: kept a while for the device that asks. It is no record; the journal is.
import type { Decision } from '../../protocol/decisions.ts'

export interface Cuts {
  /** @param admitted the decision that had let the session in */
  remember(admitted: Decision, denied: Decision): void
  /** Another process of this gateway cut it. */
  learn(session: string, denied: Decision): void
  /** The decision that cut a session of this device; null: none is remembered. */
  find(session: string, uid: string): Decision | null
}

const MAX_REMEMBERED = 4_096

/** @param tell the other processes of this gateway, if there are: the device asks whichever it has a connection to */
export function createCuts(tell: (session: string, denied: Decision) => void = () => {}): Cuts {
  /** In order of insertion. */
  const cut = new Map<string, Decision>()
  const learn = (session: string, denied: Decision) => {
    cut.set(session, denied)
    if (cut.size > MAX_REMEMBERED) cut.delete(cut.keys().next().value ?? '')
  }
  return {
    learn,
    remember({ id }, denied) {
      learn(id, denied)
      tell(id, denied)
    },
    find(session, uid) {
      const denied = cut.get(session)
      return denied?.uid === uid ? denied : null
    },
  }
}
