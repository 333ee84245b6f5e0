// The agent's local proxy: traffic to protected destinations goes through gateways, all other goes direct. It holds no policy of its own.
import type { ProfileSettings } from '../../protocol/profile.ts'
import { createAskGateways } from './ask-gateways.ts'
import { askSshCertificate, type SshCertificateOutcome, type SshCertificateWanted } from './ask-ssh-certificate.ts'
import type { Denial } from './denial.ts'
import { compileDestinations } from './destinations.ts'
import type { Resolve } from './dial-gateway.ts'
import { createLink, type GatewayLink } from './gateway-link.ts'
import type { TunnelIdentity } from './gateway-session.ts'
import { createHealing } from './healing.ts'
import { createHttpProxy } from './http-proxy.ts'
import { listen, type Listener } from './listener.ts'
import { createOpener } from './opener.ts'
import { createPac } from './pac.ts'
import { pacScript } from './pac-script.ts'
import { createSocksProxy } from './socks-proxy.ts'
import { systemTimers, type Timers } from '../../node/timers.ts'
import type { Revocations } from './revocations.ts'
import { keepTransparent, type TransparentState } from './transparent/keep-transparent.ts'
import type { TransparentPlace } from './transparent/mark.ts'
import type { Target } from './target.ts'
import type { TunnelLog } from './tunnel-log.ts'
import { createAssociate } from './udp-association.ts'
import { watchPath, type OnPathChange, type PathWatch } from './watch-path.ts'

export interface TunnelOptions {
  settings: () => ProfileSettings
  /** Tells of each change of settings; returns how to stop listening. */
  onSettings: (listener: () => void) => () => void
  /** Read at each new connection to a gateway, so that a renewed certificate is used at once. */
  identity: () => TunnelIdentity
  /** Certificates of the EMS's authorities, PEM. */
  authorities: () => string[]
  /** Certificates of gateways that are void before their end. */
  revocations?: Revocations
  /** Where the HTTP port shows the PAC file; nowhere unless said. */
  pacPath?: string | undefined
  /** Where the machine may be changed for programs without proxy settings; nowhere unless said. */
  transparent?: TransparentPlace & {
    /** Whatever the profile says. */
    readonly isAsked: boolean
    /** The name of the EMS. */
    readonly ems: string
    readonly onDefect: (cause: unknown) => void
  } | undefined
  /** The only user of this machine who is served. */
  ownerUid: number
  log: TunnelLog
  now: () => number
  onDenial: (denial: Denial) => void
  /** Has the certificate issued anew, because a gateway refuses the one at hand; false: it was not. Nobody does unless said. */
  renew?: () => Promise<boolean>
  /** How a sleep or another network is noticed; by the machine's clocks and addresses unless said. */
  path?: (onChange: OnPathChange) => PathWatch
  /** Looks names of gateways up; the system unless said. */
  resolve?: Resolve
  timers?: Timers
  /** 0 ≤ x < 1, for the jitter of reconnecting. */
  random?: () => number
}

export interface Tunnel {
  /** The ports of the moment: a change of settings may move them. */
  readonly httpPort: number
  readonly socksPort: number
  /** For a browser's settings; null where there is none. Whoever knows it learns what is protected. */
  readonly pacUrl: string | null
  /** What programs without proxy settings reach. */
  transparent(): TransparentState | null
  /** Whether a gateway leads there. */
  protects(target: Target): boolean
  /** Has a gateway that leads to a host certify a key for an SSH session there. */
  sshCertificate(wanted: SshCertificateWanted): Promise<SshCertificateOutcome>
  /** Cuts every connection and frees the ports. */
  close(): Promise<void>
}

/**
 * Starts the proxy on 127.0.0.1.
 * @throws the system's error when a port can't be had; on a later change of ports the old ones are kept instead
 */
export async function startTunnel({ settings, onSettings, identity, authorities, revocations, pacPath, transparent: place, ownerUid, log, now, onDenial, renew, path, resolve, timers = systemTimers, random = Math.random }: TunnelOptions): Promise<Tunnel> {
  const links = new Map<string, { link: GatewayLink; address: string }>()
  const listeners = new Set<Listener>()
  let applied = settings()
  let destinations = compileDestinations(applied.destinations)
  let closed = false

  function applyGateways({ gateways }: ProfileSettings): void {
    const wanted = new Map(gateways.map((address) => [address.serial, address]))
    for (const [serial, { link }] of links) {
      if (wanted.has(serial)) continue
      link.drain()
      links.delete(serial)
    }
    for (const [serial, address] of wanted) {
      const known = links.get(serial)
      const text = JSON.stringify(address)
      if (!known) links.set(serial, { address: text, link: createLink(address, { identity, authorities, revocations, resolve, timers, now, random, log }) })
      else if (known.address !== text) {
        known.link.readdress(address)
        known.address = text
      }
    }
  }

  const healing = createHealing({ renew: renew ?? (() => Promise.resolve(false)), timers, random, log })
  const askGateways = createAskGateways({ destinations: () => destinations, link: (serial) => links.get(serial)?.link, healing, onDenial })
  const open = createOpener({ askGateways, timers, now, onDenial, log })
  const isProtected = (target: Target) => destinations(target) !== null
  const associate = createAssociate({ ownerUid, open, isProtected, timers, now, log })
  const pac = pacPath === undefined ? undefined : createPac(pacPath, (port) => pacScript(applied.destinations, port))
  const transparent = place === undefined ? null : keepTransparent({ place, isAsked: place.isAsked, ownNames: [place.ems], ownerUid, open, isProtected, timers, log, onDefect: place.onDefect })
  const serve = { http: createHttpProxy({ open, pac, timers }), socks: createSocksProxy({ open, associate, timers }) }
  const start = async (kind: 'http' | 'socks', port: number): Promise<Listener> => {
    const listener = await listen({ port, ownerUid, log, serve: serve[kind] })
    listeners.add(listener)
    return listener
  }

  applyGateways(applied)
  /** The ports that the listeners of the moment were asked for. */
  const had = { ...applied.proxy }
  let http = await start('http', had.httpPort)
  let socks: Listener
  try {
    socks = await start('socks', had.socksPort)
  } catch (error) {
    await http.close()
    throw error
  }

  /** The new listener stands before the old one goes; open sockets of the old one stay. */
  async function move(kind: 'http' | 'socks', old: Listener, port: number): Promise<Listener> {
    try {
      const next = await start(kind, port)
      had[`${kind}Port`] = port
      old.stop()
      return next
    } catch (error) {
      log.error({ event: 'port_unavailable', kind, port, cause: String(error) }, `The ${kind} proxy stays on port ${old.port}: the new port can't be had`)
      return old
    }
  }

  async function movePorts({ httpPort, socksPort }: ProfileSettings['proxy']): Promise<void> {
    if (closed) return
    if (httpPort !== had.httpPort) http = await move('http', http, httpPort)
    if (socksPort !== had.socksPort) socks = await move('socks', socks, socksPort)
  }

  // One change after the other: two at once would leave a listener that nobody knows.
  let moving = Promise.resolve()
  function apply(): void {
    applied = settings()
    destinations = compileDestinations(applied.destinations)
    applyGateways(applied)
    const { proxy } = applied
    const settingsNow = applied
    moving = moving.then(() => movePorts(proxy)).then(() => transparent?.apply(settingsNow))
  }
  const stopListening = onSettings(apply)
  const watch = (path ?? ((onChange) => watchPath({ timers, onChange })))((addresses) => {
    log.info({ event: 'path_changed' }, 'The machine has slept or changed its network: connections to gateways are probed')
    for (const { link } of links.values()) link.probe(addresses)
  })
  // They may have changed while the ports were being opened.
  apply()
  await moving
  log.info({ event: 'tunnel_started', httpPort: http.port, socksPort: socks.port }, 'The local proxy is listening')

  return {
    get httpPort() {
      return http.port
    },
    get socksPort() {
      return socks.port
    },
    get pacUrl() {
      return pac === undefined ? null : `http://127.0.0.1:${http.port}${pac.path}`
    },
    transparent: () => transparent?.state() ?? null,
    protects: isProtected,
    sshCertificate: (wanted) => askSshCertificate(wanted, { askGateways, timers, now }),
    async close() {
      closed = true
      stopListening()
      watch.close()
      await moving
      await transparent?.close()
      for (const { link } of links.values()) link.destroy()
      await Promise.all([...listeners].map((listener) => listener.close()))
    },
  }
}
