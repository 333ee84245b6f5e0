// What is wrong with this agent now, one sentence for each kind, for the log and for `status`. It mends nothing.
import type { Log } from '../node/logging.ts'

/** `ems`: it does not take what it is sent; `storage`: the state can not be written; `renewal`, `section`, `documents`, `user`, `browsers`: what could not be done there; `gateways`: whose certificates are revoked. */
export type TroubleKind = 'ems' | 'storage' | 'renewal' | 'section' | 'documents' | 'user' | 'browsers' | 'gateways'
export interface Trouble { readonly kind: TroubleKind; /** ms */ readonly since: number; readonly sentence: string }

export interface Troubles {
  /** Says what is wrong; the same again is no news. */
  raise(kind: TroubleKind, sentence: string): void
  clear(kind: TroubleKind): void
  all(): readonly Trouble[]
}

/** @param now ms */
export function createTroubles(log: Log, now: () => number): Troubles {
  const standing = new Map<TroubleKind, Trouble>()
  return {
    raise(kind, sentence) {
      const before = standing.get(kind)
      if (before?.sentence === sentence) return
      standing.set(kind, { kind, since: before?.since ?? Math.round(now()), sentence })
      log.error({ event: 'trouble', kind, reason: sentence }, 'Something is wrong here; the agent goes on and tries again.')
    },
    clear(kind) {
      if (standing.delete(kind)) log.info({ event: 'trouble-over', kind }, 'It works again.')
    },
    all: () => [...standing.values()],
  }
}
