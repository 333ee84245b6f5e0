// Opens a TCP connection to one of the addresses that were checked, and to no other.
import { connect, type Socket } from 'node:net'
import type { Timers } from '../../node/timers.ts'
import { createIntake, type Intake } from './intake.ts'

export type Dialled = { readonly ok: true; readonly socket: Socket; /** What the socket reads comes from here, and by no 'data' event. */ readonly intake: Intake } | { readonly ok: false; readonly detail: string }

const MAX_ADDRESSES = 4
/** An 'error' without a listener would end the gateway; what follows one is told by 'close'. */
const untold = () => {}

function dialOne(address: string, port: number, limitMs: number, timers: Timers, signal: AbortSignal): Promise<Dialled> {
  const { promise, resolve } = Promise.withResolvers<Dialled>()
  const intake = createIntake()
  const socket = connect({ host: address, port, allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000, onread: intake.onread })
  const give = (outcome: Dialled) => {
    stop()
    signal.removeEventListener('abort', abort)
    resolve(outcome)
  }
  const fail = (detail: string) => {
    socket.destroy()
    give({ ok: false, detail })
  }
  const abort = () => fail('the client went away')
  const stop = timers.after(limitMs, () => fail(`no connection within ${limitMs} ms`))
  const failed = (error: Error) => fail(error.message)
  socket.on('error', failed)
  socket.on('error', untold)
  socket.once('connect', () => {
    // A listener that stays would hold all this for as long as the tunnel lasts.
    socket.off('error', failed)
    give({ ok: true, socket, intake })
  })
  if (signal.aborted) abort()
  else signal.addEventListener('abort', abort, { once: true })
  return promise
}

/** Tries the addresses in their order; the last failure is told. */
export async function dial({ addresses, port, limitMs, timers, signal }: {
  addresses: readonly string[]; port: number; limitMs: number; timers: Timers; signal: AbortSignal
}): Promise<Dialled> {
  let outcome: Dialled = { ok: false, detail: 'there is no address' }
  for (const address of addresses.slice(0, MAX_ADDRESSES)) {
    outcome = await dialOne(address, port, limitMs, timers, signal)
    if (outcome.ok || signal.aborted) return outcome
  }
  return outcome
}
