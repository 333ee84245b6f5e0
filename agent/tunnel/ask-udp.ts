// How a gateway is asked for UDP: extended CONNECT (RFC 8441, RFC 9298 §3.4), once the gateway has said that it takes it.
import type { ClientHttp2Session, OutgoingHttpHeaders } from 'node:http2'
import { CONNECT_UDP, udpPath } from '../../protocol/capsules.ts'
import type { Timers } from '../../node/timers.ts'
import type { Target } from './target.ts'

const settingLimitMs = 2_000
const isTaken = (session: ClientHttp2Session): boolean => session.remoteSettings?.enableConnectProtocol === true

/** The head of the request. Which host is asked stands in the connection; the authority is a form. */
export const udpRequest = ({ host, port }: Target): OutgoingHttpHeaders => ({
  ':method': 'CONNECT', ':protocol': CONNECT_UDP, ':scheme': 'https', ':authority': 'gateway', ':path': udpPath(host, port), 'capsule-protocol': '?1',
})

/** Waits for the gateway's word, which may come a moment after the connection stands. @throws Error when it does not come: that gateway is older than UDP */
export async function untilUdpIsTaken(session: ClientHttp2Session, timers: Timers): Promise<void> {
  if (isTaken(session)) return
  const { promise, resolve, reject } = Promise.withResolvers<undefined>()
  const look = () => {
    if (isTaken(session)) resolve(undefined)
  }
  const fail = () => reject(new Error('it does not carry UDP'))
  session.on('remoteSettings', look)
  session.once('close', fail)
  const stop = timers.after(settingLimitMs, fail)
  try {
    await promise
  } finally {
    stop()
    session.off('remoteSettings', look)
    session.off('close', fail)
  }
}
