// Questions about single endpoints over the socket: one in flight for each UID, bounded in time and number. What the answer says is applied elsewhere.
import type { Timers } from '../../node/timers.ts'

export interface Lookups {
  /** Resolves when the answer was applied, or when it can't be had in time. Never rejects. @returns whether the EMS has answered, now or a little earlier */
  ask(uid: string): Promise<boolean>
  /** An answer came and has been applied. */
  answered(uid: string, known: boolean): void
  /** The socket is gone: nobody will answer. */
  abandon(): void
}

interface Options {
  /** Sends the question; false: there is no socket. */
  readonly send: (uid: string) => boolean
  readonly timers: Timers
  readonly now: () => number
}

export const LOOKUP_MS = 500
/** How long `there is none` is believed; and how long a record that was just told is not asked for again. */
export const UNKNOWN_MS = 10_000
const KNOWN_MS = 1_000
const MAX_WAITING = 256
const MAX_REMEMBERED = 10_000

export function createLookups({ send, timers, now }: Options): Lookups {
  const waiting = new Map<string, { readonly done: Promise<boolean>; readonly finish: (answered: boolean) => void }>()
  /** UID → ms until which it is not asked about again; in order of insertion. */
  const remembered = new Map<string, number>()

  return {
    ask(uid) {
      const under = waiting.get(uid)
      if (under !== undefined) return under.done
      if ((remembered.get(uid) ?? 0) > now()) return Promise.resolve(true)
      if (waiting.size >= MAX_WAITING || !send(uid)) return Promise.resolve(false)
      const { promise, resolve } = Promise.withResolvers<boolean>()
      const cancel = timers.after(LOOKUP_MS, () => finish(false))
      const finish = (answered: boolean) => {
        cancel()
        waiting.delete(uid)
        resolve(answered)
      }
      waiting.set(uid, { done: promise, finish })
      return promise
    },
    answered(uid, known) {
      remembered.delete(uid)
      remembered.set(uid, now() + (known ? KNOWN_MS : UNKNOWN_MS))
      if (remembered.size > MAX_REMEMBERED) remembered.delete(remembered.keys().next().value ?? '')
      waiting.get(uid)?.finish(true)
    },
    abandon() {
      for (const { finish } of waiting.values()) finish(false)
    },
  }
}
