// A UDP association of SOCKS5 (RFC 1928 §7): one port on loopback for one local program, and a flow for each destination that it sends to.
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import type { Timers } from '../../node/timers.ts'
import { openDirectly, openProtected, type FlowWay } from './datagram-flow.ts'
import { createDatagramGate } from './datagram-gate.ts'
import { portHolder, type PortHolder } from './datagram-owner.ts'
import type { Opener } from './opener.ts'
import { readSocksDatagram, socksDatagram, type SocksDatagram } from './socks-address.ts'
import type { Target } from './target.ts'
import type { TunnelLog } from './tunnel-log.ts'

export interface Association { readonly port: number; close(): void }
/** @param expected the port that the program says it will send from; 0: it does not say */
export type Associate = (expected: number) => Promise<Association>

export interface AssociateOptions {
  readonly ownerUid: number
  readonly open: Opener
  /** Whether a gateway protects it; what none protects goes direct. */
  readonly isProtected: (target: Target) => boolean
  readonly timers: Timers
  /** ms. */
  readonly now: () => number
  readonly log: TunnelLog
  readonly holder?: (port: number) => Promise<PortHolder | null>
}

interface Flow { readonly isProtected: boolean; way: FlowWay | null; readonly early: Uint8Array[]; lastAt: number; readonly abort: AbortController; failedAt: number | null }

/** Flows of one association, and of all of them. The one that was used the longest ago gives way. */
const MAX_FLOWS = 128
const MAX_ALL_FLOWS = 1_024
/** Datagrams that may wait while a flow is being opened. */
const MAX_EARLY = 32
const IDLE_MS = 300_000
const SWEEP_MS = 30_000
/** How long a destination that could not be had is not asked for again: a program that sends on must not become a thousand questions. */
const FAILED_MS = 2_000
const LOOPBACK = '127.0.0.1'

/** Makes the associations of one agent. */
export function createAssociate({ ownerUid, open, isProtected, timers, now, log, holder = portHolder }: AssociateOptions): Associate {
  let all = 0
  return async (expected) => {
    const socket = createSocket('udp4')
    const flows = new Map<string, Flow>()
    const gate = createDatagramGate({ ownerUid, holder, log })
    let closed = false

    function drop(key: string, flow: Flow): void {
      if (flows.get(key) !== flow) return
      flows.delete(key)
      all -= 1
      flow.abort.abort()
      flow.way?.close()
    }
    function makeRoom(): boolean {
      if (flows.size < MAX_FLOWS && all < MAX_ALL_FLOWS) return true
      const [oldest] = [...flows].sort(([, one], [, other]) => one.lastAt - other.lastAt)
      if (oldest !== undefined) drop(...oldest)
      return oldest !== undefined
    }
    function begin(key: string, { address, target }: SocksDatagram): Flow {
      // The datagram that it stood in is not kept for the sake of a few bytes.
      const told = Uint8Array.from(address)
      const flow: Flow = { isProtected: isProtected(target), way: null, early: [], lastAt: now(), abort: new AbortController(), failedAt: null }
      flows.set(key, flow)
      all += 1
      const ends = {
        onPayload(payload: Uint8Array) {
          flow.lastAt = now()
          const { port } = gate
          if (port !== null) gate.admit(port, () => socket.send(socksDatagram(told, payload), port, LOOPBACK, ignoreLost))
        },
        onEnd: () => drop(key, flow),
      }
      const { signal } = flow.abort
      const opening = flow.isProtected ? openProtected(open, target, signal, ends) : openDirectly(target, signal, ends)
      opening.then((way) => {
        if (way === null) flow.failedAt = now()
        else if (signal.aborted) way.close()
        else {
          flow.way = way
          for (const payload of flow.early) way.send(payload)
        }
        flow.early.length = 0
      }, (cause: Error) => {
        log.warn({ event: 'flow_failed', cause: cause.message }, 'A way for datagrams could not be opened')
        drop(key, flow)
      })
      return flow
    }
    /** A datagram that is too long for a program behind its header is lost, as on any way that is too narrow. */
    const ignoreLost = (error: Error | null) => {
      if (error !== null) log.info({ event: 'datagram_lost', cause: error.message }, 'A datagram did not reach its local program')
    }
    function send(datagram: SocksDatagram): void {
      const key = Buffer.from(datagram.address).toString('latin1')
      let flow = flows.get(key)
      const isOver = (before: Flow) => before.isProtected !== isProtected(datagram.target) || (before.failedAt !== null && now() - before.failedAt >= FAILED_MS)
      if (flow !== undefined && isOver(flow)) drop(key, flow)
      flow = flows.get(key) ?? (makeRoom() ? begin(key, datagram) : undefined)
      if (flow === undefined || flow.failedAt !== null) return
      flow.lastAt = now()
      if (flow.way !== null) flow.way.send(datagram.payload)
      else if (flow.early.length < MAX_EARLY) flow.early.push(datagram.payload)
    }

    socket.on('message', (bytes: Uint8Array, from) => {
      if (from.address !== LOOPBACK || (expected !== 0 && from.port !== expected)) return
      gate.admit(from.port, () => {
        const datagram = readSocksDatagram(bytes)
        if (datagram !== null && !closed) send(datagram)
      })
    })
    socket.bind({ address: LOOPBACK, port: 0, exclusive: true })
    await once(socket, 'listening')
    // Of one that is bound: what comes of sending to a program that is gone. The next look at its port tells the same.
    socket.on('error', (error) => log.info({ event: 'association_failed', cause: error.message }, 'A UDP association met an error'))

    let stopSweeping = () => {}
    const sweep = () => {
      for (const [key, flow] of flows) if (now() - Math.max(flow.lastAt, flow.failedAt ?? 0) >= (flow.failedAt === null ? IDLE_MS : FAILED_MS)) drop(key, flow)
      stopSweeping = timers.after(SWEEP_MS, sweep)
    }
    stopSweeping = timers.after(SWEEP_MS, sweep)
    return {
      port: socket.address().port,
      close() {
        if (closed) return
        closed = true
        stopSweeping()
        gate.close()
        for (const [key, flow] of flows) drop(key, flow)
        socket.close()
      },
    }
  }
}
