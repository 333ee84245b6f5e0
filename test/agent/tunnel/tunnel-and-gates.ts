// A running proxy in front of real gates, each with real TLS and policies of its own.
import type { Denial } from '../../../agent/tunnel/denial.ts'
import { startTunnel, type TunnelOptions } from '../../../agent/tunnel/start.ts'
import type { OnPathChange } from '../../../agent/tunnel/watch-path.ts'
import { profileSettings, type Destination } from '../../../protocol/profile.ts'
import { UID, issue, later, type Gate } from '../../gateway/proxy/gate-under-test.ts'
import { connectThrough, rawClient } from './tunnel-under-test.ts'

export interface GateAt { gate: Gate; serial: string; host?: string; port?: number }

/** Starts the agent's proxy with a profile that names these gates, the preferred one first. */
export async function startTunnelTo(gates: GateAt[], match: string, ports: Destination['ports'], more: Partial<TunnelOptions> = {}) {
  const [first, ...others] = gates
  if (first === undefined) throw new Error('no gates')
  const denials: Denial[] = []
  const events: string[] = []
  const record = ({ event }: { event: string }) => {
    events.push(event)
  }
  let changePath: OnPathChange = () => {}
  const settings = profileSettings.parse({
    gateways: gates.map(({ gate, serial, host = '127.0.0.1', port = gate.proxy.port }) => ({ serial, host, port })),
    destinations: [{ match, ports, gateway: first.serial, ...(others.length > 0 ? { fallbacks: others.map(({ serial }) => serial) } : {}) }],
    proxy: { httpPort: 0, socksPort: 0 },
  })
  const { agent } = first.gate
  const tunnel = await startTunnel({
    settings: () => settings, onSettings: () => () => {}, identity: () => ({ certificatePem: agent.cert, privateKeyPem: agent.key }),
    authorities: () => gates.map(({ gate }) => gate.authority.certificatePem), ownerUid: process.getuid?.() ?? -1,
    log: { info: record, warn: record, error: record }, now: Date.now, onDenial: (denial) => denials.push(denial),
    path(onChange) {
      changePath = onChange
      return { close: () => {} }
    },
    ...more,
  })
  later(() => tunnel.close())
  return {
    tunnel, denials, events,
    /** The machine is on these addresses now. */
    changePath: (addresses: string[] = ['127.0.0.1', '::1']) => changePath(new Set(addresses)),
    open: (target: string) => connectThrough({ tunnel }, target),
    /** What the proxy says to a CONNECT, head and refusal. */
    async ask(target: string): Promise<string> {
      const client = await rawClient(tunnel.httpPort)
      client.socket.write(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`)
      const text = (await client.until((bytes) => bytes.includes('\n\r\n'))).toString()
      if (text.startsWith('HTTP/1.1 200')) {
        client.socket.destroy()
        return text
      }
      await client.closed
      return client.received().toString()
    },
  }
}
export type TunnelToGates = Awaited<ReturnType<typeof startTunnelTo>>

/** Another certificate for the same device, by the CA of a gate. */
export const anotherCertificate = (gate: Gate) => issue(gate.authority, UID, 'agent')
