// The way from a tunnel to its destination, by TCP or by UDP, from addresses that were checked. Whether it may be gone is decided before.
import type { Timers } from '../../node/timers.ts'
import { carryDatagrams, type CarriedDatagrams } from './carry-datagrams.ts'
import { dial } from './dial.ts'
import { dialUdp } from './dial-udp.ts'
import { screenHost, type JudgeHostKey } from '../ssh/screen-host.ts'
import type { Reason } from '../../protocol/decisions.ts'
import { breakUpstream, splice, type Client } from './splice.ts'

export interface Joined {
  /** At once; after it not a byte more is carried, and the client's side is the caller's to end. */
  stop(): void
  carried(): { up: number; down: number; datagrams?: CarriedDatagrams }
}
interface Ends {
  readonly idleMs: number
  /** Judges the key of an SSH host before it is spoken with; null: the bytes are nobody's business. */
  readonly judgeHostKey: JudgeHostKey | null
  readonly onEnd: () => void
  /** The gateway ends it, for a reason of the far side. */
  readonly onFailed: (reason: Reason, detail: string) => void
}
export interface Way {
  readonly ok: true
  /** Nothing more comes or goes there. */
  isClosed(): boolean
  /** Gives it up before it was joined. */
  abandon(): void
  join(client: Client, head: Uint8Array, ends: Ends): Joined
}
interface Wanted { readonly addresses: readonly string[]; readonly port: number; readonly limitMs: number; readonly timers: Timers; readonly now: () => number; readonly signal: AbortSignal }
type Reached = Way | { readonly ok: false; readonly detail: string }

async function reachTcp(wanted: Wanted): Promise<Reached> {
  const dialled = await dial(wanted)
  if (!dialled.ok) return dialled
  const { socket, intake } = dialled
  return { ok: true, isClosed: () => socket.destroyed, abandon: () => breakUpstream(socket), join: (client, head, { judgeHostKey, onEnd, onFailed }) => splice(client, socket, head, onEnd, judgeHostKey === null ? intake : screenHost(client, intake, head, judgeHostKey, (why) => onFailed('ssh-host-key', why))) }
}

async function reachUdp({ addresses, port, timers, now, signal }: Wanted): Promise<Reached> {
  const dialled = await dialUdp(addresses, port)
  if (!dialled.ok) return dialled
  const { socket } = dialled
  let closed = false
  socket.once('close', () => {
    closed = true
  })
  const abandon = () => {
    socket.close()
  }
  if (signal.aborted) {
    abandon()
    return { ok: false, detail: 'the client went away' }
  }
  return { ok: true, isClosed: () => closed, abandon, join: (client, head, { idleMs, onEnd, onFailed }) => carryDatagrams(client, socket, head, { idleMs, onEnd, onUnreachable: (detail) => onFailed('upstream-unreachable', detail), timers, now }) }
}

/** Opens the way, within `limitMs`. */
export const reach = (protocol: 'tcp' | 'udp', wanted: Wanted): Promise<Reached> => (protocol === 'udp' ? reachUdp(wanted) : reachTcp(wanted))
