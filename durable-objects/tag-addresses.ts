// Which addresses bear which tag, for packet filters that know addresses only: those at which a trusted gateway sees a device. An agent's claim says whose a sight may be, and brings in nothing by itself. Pure.
import { claimedAddresses, claimedMacs } from '../domain/access/device-address.ts'
import type { Sight } from './follower-store.ts'
import type { LogEntry } from './log-entry.ts'
import { propertiesOf, type View } from './notices.ts'

/** A device that a gateway sees at an address. */
export interface Seen { readonly entry: LogEntry; readonly sight: Sight }
const indexBy = (sights: readonly Sight[], keyOf: (sight: Sight) => string) => Map.groupBy(sights, keyOf)

/**
 * Every sight that is some endpoint's. What the gateway itself sees at an address counts before what others see there: the same
 * private range may be in use at several sites.
 */
export function devicesSeen(kept: Iterable<{ readonly entry: LogEntry }>, sights: readonly Sight[], self: string): Seen[] {
  const own = new Set(sights.filter(({ serial }) => serial === self).map(({ ip }) => ip))
  const counted = sights.filter(({ serial, ip }) => serial === self || !own.has(ip))
  const neighbours = indexBy(counted.filter(({ kind }) => kind === 'neighbour'), ({ device }) => device)
  const connections = indexBy(counted.filter(({ kind }) => kind !== 'neighbour'), ({ device }) => device)
  const macsAt = indexBy(counted.filter(({ kind }) => kind === 'neighbour'), ({ serial, vdom, ip }) => `${serial}/${vdom}/${ip}`)
  const seen: Seen[] = []
  /** Somebody who does not claim the address spoke from it: it stands for others too, as behind a laptop that shares its network. */
  const shared = new Set<string>()
  for (const { entry } of kept) {
    if (!entry.registered) continue
    const macs = claimedMacs(entry.macs)
    const pairs = macs.flatMap((mac) => neighbours.get(mac) ?? [])
    const connected = connections.get(entry.uid) ?? []
    if (pairs.length + connected.length === 0) continue
    const claims = new Set(claimedAddresses(entry.ips))
    for (const sight of pairs) if (claims.has(sight.ip)) seen.push({ entry, sight })
    for (const sight of connected) {
      // Somebody else answers at that address now; and behind a NAT it is everybody's.
      const foreign = macs.length > 0 && (macsAt.get(`${sight.serial}/${sight.vdom}/${sight.ip}`) ?? []).some(({ device }) => !macs.includes(device))
      if (!foreign && (sight.kind === 'vpn' || claims.has(sight.ip))) seen.push({ entry, sight })
    }
    for (const { kind, ip } of connected) if (kind === 'mtls' && !claims.has(ip)) shared.add(ip)
  }
  return seen.filter(({ sight }) => sight.kind === 'vpn' || !shared.has(sight.ip))
}

export interface AddressCommand {
  readonly uuid: string
  readonly tag_properties: ReturnType<typeof propertiesOf>
  readonly type: 'ipblock' | 'mac'
  readonly values: readonly string[]
  /** ms: the earliest instant at which one of the values ends by time alone; null: none does (our addition). */
  readonly valid_until: number | null
}
type Listed = Map<string, number | null>
const least = (a: number | null, b: number | null) => (a === null ? b : b === null ? a : Math.min(a, b))
/** A quarantined device bears no tag here: a list lets through. */
const bears = (entry: LogEntry, tagUid: string, now: number) =>
  (entry.quarantined ? undefined : entry.tags.find((tag) => tag.tagUid === tagUid && tag.state === 'present' && (tag.validUntil === null || tag.validUntil > now)))

/**
 * One command per tag and kind of address, in the order of tags. An address behind which several devices are seen, or which several
 * claim, bears only what all of them bear: a packet does not say whose it is.
 * @param shown only addresses of these endpoints; the others still count as devices behind them
 */
export function addressCommands(seen: readonly Seen[], { tagNames, shareTagTypes }: View, now: number, shown: (uid: string) => boolean = () => true): AddressCommand[] {
  const tags = [...tagNames.values()].filter(({ type }) => shareTagTypes.includes(type)).sort((a, b) => (a.uid < b.uid ? -1 : 1))
  const lists = new Map<string, Record<AddressCommand['type'], Listed>>(tags.map(({ uid }) => [uid, { ipblock: new Map(), mac: new Map() }]))
  const list = (type: AddressCommand['type'], value: string, devices: readonly LogEntry[]) => {
    const [first] = devices
    if (first === undefined || !devices.some(({ uid }) => shown(uid))) return
    for (const { tagUid } of first.tags) {
      const borne = devices.map((entry) => bears(entry, tagUid, now))
      if (borne.every((tag) => tag !== undefined)) lists.get(tagUid)?.[type].set(value, borne.reduce<number | null>((until, tag) => least(until, tag.validUntil), null))
    }
  }
  for (const [ip, at] of Map.groupBy(seen, ({ sight }) => sight.ip)) list('ipblock', ip, at.map(({ entry }) => entry))
  for (const [mac, at] of Map.groupBy(seen.filter(({ sight }) => sight.kind === 'neighbour'), ({ sight }) => sight.device)) list('mac', mac, at.map(({ entry }) => entry))
  return tags.flatMap((tag) => (['ipblock', 'mac'] as const).map((type): AddressCommand => {
    const values: Listed = lists.get(tag.uid)?.[type] ?? new Map()
    return { uuid: tag.uid, tag_properties: propertiesOf(tag), type, values: [...values.keys()].sort(), valid_until: [...values.values()].reduce(least, null) }
  }))
}

/** Where a device is reached, by the published names: an entry per gateway and interface that sees it. */
export function routesOf(seen: readonly Seen[]) {
  const byInterface = Map.groupBy(seen, ({ sight }) => `${sight.serial}/${sight.vdom}/${sight.interface}`)
  return [...byInterface.values()].flatMap((at) => {
    const [first] = at
    if (first === undefined) return []
    const { serial, vdom, interface: iface } = first.sight
    return [{ gateway_info: { fgt_sn: serial, interface: iface, vdom }, route_info: at.map(({ sight }) => ({ ip: sight.ip, mac: sight.kind === 'neighbour' ? sight.device : '', route_type: sight.kind })) }]
  })
}
