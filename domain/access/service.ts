// A declared service in the form that is looked up and connected to. Policies say who may reach it.
import ipaddr from 'ipaddr.js'
import type { AccessProtocol } from '../../protocol/decisions.ts'
import { normalAddress, normalHost, type Address } from './host.ts'
import type { PolicyFile } from './policy-file.ts'
import { prefixOf } from './request-path.ts'
import { compileSsh, type SshService } from './ssh-service.ts'

type Declared = PolicyFile['services'][number]

export interface Upstream {
  readonly secure: boolean
  readonly host: string
  readonly port: number
}

/** How the gateway and an upstream know each other when it is spoken to over TLS. */
export interface UpstreamTls {
  /** PEM; null: the roots of the system. */
  readonly ca: string | null
  /** The name its certificate must bear; null: the host of its URL. */
  readonly name: string | null
  /** Files of the gateway's own certificate for it, PEM; null: none is shown. */
  readonly client: { readonly certificateFile: string; readonly keyFile: string } | null
}

export interface Service {
  readonly name: string
  readonly protocol: AccessProtocol
  /** Exact hosts, in normal form. */
  readonly hosts: readonly string[]
  /** Each begins with a dot. */
  readonly suffixes: readonly string[]
  readonly ranges: readonly (readonly [Address, number])[]
  /** Inclusive; none: every port. */
  readonly ports: readonly (readonly [number, number])[]
  /** Path prefixes without a final slash; `''` is every path. */
  readonly paths: readonly string[]
  /** Where to connect; none (TCP and UDP only): where the client asked to be taken. */
  readonly upstreams: readonly Upstream[]
  readonly tls: UpstreamTls
  /** How an upstream is asked whether it is well; null: it is not asked. */
  readonly health: { readonly path: string; readonly everyMs: number; readonly withinMs: number } | null
  readonly limits: { readonly requestBytes: number; readonly requestMs: number; readonly silenceMs: number }
  /** `bulk`: agents are told to carry it over a connection of its own. */
  readonly traffic: 'interactive' | 'bulk'
  /** Without a datagram for so long, a UDP session ends. */
  readonly idleMs: number
  /** Addresses that are dialled although they are special, in normal form. */
  readonly addresses: ReadonlySet<string>
  readonly stale: { readonly afterMs: number; readonly holdMs: number }
  readonly requireOnline: boolean
  /** Whether somebody without a device may reach it, where the gateway takes such at all. */
  readonly anonymous: boolean
  /** What it says of SSH behind it; null: nothing. */
  readonly ssh: SshService | null
}

const rangeOf = (pattern: string): readonly [Address, number] => {
  const [network, bits] = ipaddr.parseCIDR(pattern)
  // An IPv4 range written inside IPv6 must meet addresses that were taken out of it.
  return network.kind() === 'ipv6' && (network as ipaddr.IPv6).isIPv4MappedAddress() && bits >= 96 ? [(network as ipaddr.IPv6).toIPv4Address(), bits - 96] : [network, bits]
}

const portPair = (value: number | string): readonly [number, number] => {
  if (typeof value === 'number') return [value, value]
  const [from = 0, to = 0] = value.split('-').map(Number)
  return [from, to]
}

function upstreamOf(text: string): Upstream {
  const url = new URL(text.includes('//') ? text : `http://${text}`)
  const secure = url.protocol === 'https:'
  return { secure, host: normalHost(url.hostname), port: url.port === '' ? (secure ? 443 : 80) : Number(url.port) }
}

const seconds = (value: number) => value * 1000

/** Reads one service that the schema has accepted; one that is declared for two protocols makes two. */
export function compileService(service: Declared, fileAt: (name: string) => string): Service[] {
  const is = { range: (pattern: string) => pattern.includes('/'), suffix: (pattern: string) => pattern.startsWith('*.') }
  const upstreams = [service.upstream ?? []].flat().map(upstreamOf)
  // An upstream written as an address is a very address that the administrator listed.
  const listed = [...service.addresses, ...upstreams.map(({ host }) => host).filter((host) => normalAddress(host) !== null)]
  const common = {
    name: service.name, hosts: service.match.filter((pattern) => !is.range(pattern) && !is.suffix(pattern)).map(normalHost),
    suffixes: service.match.filter(is.suffix).map((pattern) => pattern.slice(1)), ranges: service.match.filter(is.range).map(rangeOf),
    ports: service.ports.map(portPair), upstreams, addresses: new Set(listed.map(normalHost)), requireOnline: service.requireOnline,
    stale: { afterMs: seconds(service.stale.after), holdMs: seconds(service.stale.holdFor ?? 0) },
  }
  const unlimited = { requestBytes: Infinity, requestMs: Infinity, silenceMs: Infinity }
  if (service.protocol !== 'https') {
    const tunnelled = { ...common, paths: [''], tls: { ca: null, name: null, client: null }, health: null, limits: unlimited, anonymous: false, ssh: null }
    const ssh = service.protocol === 'tcp' && service.ssh !== undefined ? compileSsh(service.ssh) : null
    const tcp: Service[] = service.protocol === 'udp' ? [] : [{ ...tunnelled, protocol: 'tcp', traffic: service.traffic, idleMs: Infinity, ssh }]
    return service.protocol === 'tcp' ? tcp : [...tcp, { ...tunnelled, protocol: 'udp', traffic: 'interactive', idleMs: seconds(service.idleSeconds) }]
  }
  const { upstreamTls: { ca, name, certificateFile, keyFile }, health, limits } = service
  return [{
    ...common, protocol: 'https', paths: service.paths.map(prefixOf), traffic: 'interactive', idleMs: Infinity, anonymous: service.anonymous, ssh: null,
    tls: { ca: ca ?? null, name: name ?? null, client: certificateFile === undefined || keyFile === undefined ? null : { certificateFile: fileAt(certificateFile), keyFile: fileAt(keyFile) } },
    health: health === undefined ? null : { path: health.path, everyMs: seconds(health.every), withinMs: seconds(health.within) },
    limits: { requestBytes: limits.requestBytes, requestMs: seconds(limits.requestSeconds), silenceMs: seconds(limits.silenceSeconds) },
  }]
}
