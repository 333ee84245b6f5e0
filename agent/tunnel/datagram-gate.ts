// Lets datagrams pass between the association of a local program and the world while one socket of the enrolled user holds the program's port.
// A UDP port says nothing of its user, and another user may have it a moment later: so each datagram waits for a look that begins after it came.
import type { PortHolder } from './datagram-owner.ts'
import type { TunnelLog } from './tunnel-log.ts'

export interface DatagramGate {
  /** The port that is served; null: none yet, or its socket was closed. */
  readonly port: number | null
  /** Runs `pass` once it is known that the enrolled user holds `port`, and has held it since the first that passed. Drops it otherwise, or when too much waits. */
  admit(port: number, pass: () => void): void
  close(): void
}

/** Datagrams that may wait for a look; each has 64 KiB at most, and a look takes less than a millisecond. */
const MAX_WAITING = 256

interface Waiting { readonly port: number; readonly pass: () => void }

/** @param holder who holds a UDP port now */
export function createDatagramGate({ ownerUid, holder, log }: { ownerUid: number; holder: (port: number) => Promise<PortHolder | null>; log: TunnelLog }): DatagramGate {
  let pinned: { port: number; sockets: string } | null = null
  let waiting: Waiting[] = []
  let looking = false
  let open = true
  let told = false

  /** Whether what came from, or goes to, `port` may pass. */
  async function look(port: number): Promise<boolean> {
    const found = await holder(port)
    if (found?.uid !== ownerUid) {
      if (pinned?.port === port) {
        pinned = null
        return false
      }
      // Once: whoever sends to this port can send as much as they like.
      if (!told) log.warn({ event: 'peer_refused', owner: found?.uid ?? null, transport: 'udp' }, found === null ? 'Refused a local datagram: whose it is can\'t be told' : 'Refused a local datagram of another user')
      told = true
      return false
    }
    // Another socket of the same user: what came or goes meanwhile may be somebody else's.
    if (pinned?.port === port && pinned.sockets !== found.sockets) {
      pinned = null
      return false
    }
    pinned ??= { port, sockets: found.sockets }
    return true
  }
  async function pump(): Promise<void> {
    looking = true
    for (let next = waiting[0]; next !== undefined; next = waiting[0]) {
      const { port } = next
      const batch = waiting.filter((each) => each.port === port)
      waiting = waiting.filter((each) => each.port !== port)
      if (await look(port) && open) for (const { pass } of batch) pass()
      if (pinned !== null) waiting = waiting.filter((each) => each.port === pinned?.port)
    }
    looking = false
  }

  return {
    get port() {
      return pinned?.port ?? null
    },
    admit(port, pass) {
      if (!open || (pinned !== null && pinned.port !== port) || waiting.length >= MAX_WAITING) return
      waiting.push({ port, pass })
      if (looking) return
      pump().catch((cause: Error) => {
        looking = false
        waiting = []
        log.warn({ event: 'peer_unknown', cause: cause.message }, 'Whose a local datagram is could not be looked up')
      })
    },
    close() {
      open = false
      waiting = []
    },
  }
}
