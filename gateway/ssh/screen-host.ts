// Holds back what a server says until the host key in it is a listed one; from then on it is out of the way. The session itself stays the client's and the server's.
import type { Client } from '../proxy/splice.ts'
import type { Intake, Take } from '../proxy/intake.ts'
import { createKeyExchange } from './key-exchange.ts'

/** Says what is wrong with a key; null: it is a listed one. */
export type JudgeHostKey = (key: Uint8Array) => string | null

const nothing = () => {}

/**
 * An intake that gives what another reads once the host has shown a key that is taken.
 * @param head what of the client came already
 * @param onRefused the reason, once; told a turn later, and nothing more is given from the moment it is known
 */
export function screenHost(client: Client, intake: Intake, head: Uint8Array, judge: JudgeHostKey, onRefused: (why: string) => void): Intake {
  const exchange = createKeyExchange()
  const hear = (piece: Uint8Array) => exchange.fromClient(piece)
  exchange.fromClient(head)
  client.on('data', hear)
  const done = () => {
    client.removeListener('data', hear)
    exchange.close()
  }
  return {
    onread: intake.onread,
    handTo(take) {
      let refused = false
      const refuse = (why: string): boolean => {
        refused = true
        done()
        queueMicrotask(() => onRefused(why))
        return false
      }
      const screen: Take = (piece, release) => {
        if (refused) return false
        const progress = exchange.fromServer(piece)
        release()
        if (progress.state === 'unreadable') return refuse(progress.why)
        const strange = progress.state === 'shown' ? judge(progress.key) : null
        let more = true
        for (const each of progress.pass) more = take(each, nothing)
        if (strange !== null) return refuse(strange)
        if (progress.state === 'reading') return more
        done()
        intake.handTo(take)
        return take(progress.held, nothing)
      }
      intake.handTo(screen)
    },
  }
}
