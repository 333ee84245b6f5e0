// Which Zero Trust tags an address bears: those of every device that a gateway has seen behind it, for as long as sight, tags and snapshot last. Pure.
import { tagName } from '../../protocol/rules.ts'
import { tagPresence, type EndpointRecord } from './endpoint-record.ts'
import { endpointByUid, type Snapshot } from './snapshot.ts'
import { staleness } from './staleness.ts'

/** A device spoke from an address over a connection in which it proved its UID. `until` in ms. */
export interface ConnectionSight { readonly uid: string; readonly serial: string; readonly until: number }
/** A VPN server of the gateway's host gave a client that address. `uid` null: it does not know whose device that is. `until` in ms. */
export interface ClientSight { readonly uid: string | null; readonly until: number }
/** What a gateway has seen at one address with its own eyes. */
export interface AddressSight {
  readonly address: string
  /** MACs that its neighbour table or its leases give for the address now: two mean that two machines answer for it. */
  readonly macs: readonly string[]
  /** ms until which that pair counts. */
  readonly neighbourUntil: number
  readonly connections: readonly ConnectionSight[]
  readonly clients?: readonly ClientSight[]
}
/** A device that stands behind an address, seen there until `until` (ms). */
export interface DeviceSight { readonly record: EndpointRecord; readonly until: number }

/**
 * Devices that the neighbour table shows at an address: the pair of address and MAC is what they claim, to the letter.
 * @param claimants who claims the address
 */
export function neighboursBehind({ address, macs: [mac, ...others], neighbourUntil: until }: AddressSight, claimants: readonly EndpointRecord[], now: number): DeviceSight[] {
  if (mac === undefined || others.length > 0 || now >= until) return []
  const matching = claimants.filter(({ registered, addresses, macs }) => registered && addresses.includes(address) && macs.includes(mac))
  // A laptop that was enrolled anew leaves a record behind that claims the same; whoever is there now is online.
  const online = matching.filter((record) => record.online)
  return (online.length > 0 ? online : matching).map((record) => ({ record, until }))
}

/**
 * Devices that proved themselves from an address that they claim as their own: behind a NAT it would be everybody's.
 * A connection tells who spoke; a neighbour entry with another MAC tells that somebody else does now.
 */
function connectedBehind({ address, macs, connections }: AddressSight, snapshot: Snapshot, now: number): DeviceSight[] {
  return connections.flatMap(({ uid, serial, until }) => {
    const record = endpointByUid(snapshot, uid)
    if (record === undefined || !record.registered || !record.addresses.includes(address)) return []
    const certificate = record.certificates.find((each) => each.serial === serial)
    // A browser's key can be carried to another machine by any program of its user.
    if (certificate === undefined || certificate.purpose !== 'agent') return []
    const foreign = record.macs.length > 0 && !macs.every((mac) => record.macs.includes(mac))
    const end = Math.min(until, certificate.notAfter)
    return foreign || now >= end ? [] : [{ record, until: end }]
  })
}

/**
 * Devices to which a VPN gave the address: the one that its server knows by UID, or whoever claims it.
 * @returns null when somebody stands there whom nobody knows: then the address bears nothing, whoever else is seen at it
 */
function clientsBehind({ address, macs, clients = [] }: AddressSight, claimants: readonly EndpointRecord[], snapshot: Snapshot, now: number): DeviceSight[] | null {
  const found: DeviceSight[] = []
  for (const { uid, until } of clients) {
    if (now >= until) continue
    const claiming = claimants.filter(({ registered, addresses }) => registered && addresses.includes(address))
    const online = claiming.filter((record) => record.online)
    const known = uid === null ? undefined : endpointByUid(snapshot, uid)
    const those = uid === null ? online.length > 0 ? online : claiming : known?.registered === true ? [known] : []
    const here = those.filter((record) => record.macs.length === 0 || macs.every((mac) => record.macs.includes(mac)))
    if (here.length === 0) return null
    found.push(...here.map((record) => ({ record, until })))
  }
  return found
}

/** Somebody who does not claim the address has just spoken from it: it stands for others too, as behind a laptop that shares its network. */
const isShared = ({ address, connections }: AddressSight, snapshot: Snapshot, now: number): boolean =>
  connections.some(({ uid, until }) => now < until && endpointByUid(snapshot, uid)?.addresses.includes(address) !== true)

export function devicesBehind(sight: AddressSight, claimants: readonly EndpointRecord[], snapshot: Snapshot, now: number): DeviceSight[] {
  if (isShared(sight, snapshot, now)) return []
  const clients = clientsBehind(sight, claimants, snapshot, now)
  return clients === null ? [] : [...neighboursBehind(sight, claimants, now), ...connectedBehind(sight, snapshot, now), ...clients]
}

/** Names of the tags that a device bears, each with the instant (ms) at which that ends or must be said anew. */
function tagsOf({ record, until }: DeviceSight, snapshot: Snapshot, now: number): Map<string, number> {
  const names = new Map<string, number>()
  if (record.quarantined) return names
  for (const [uid, { validUntil }] of record.tags) {
    const name = snapshot.tagNames.get(uid)
    // A name that no tag can have never reaches a packet filter.
    if (name === undefined || !tagName.safeParse(name).success || tagPresence(record, uid, now) !== 'present') continue
    names.set(name, Math.max(names.get(name) ?? 0, Math.min(until, validUntil ?? Infinity)))
  }
  return names
}

/** Each device once, for as long as it is seen in any way. */
function once(devices: readonly DeviceSight[]): DeviceSight[] {
  const byUid = new Map<string, DeviceSight>()
  for (const device of devices) {
    if ((byUid.get(device.record.uid)?.until ?? -Infinity) < device.until) byUid.set(device.record.uid, device)
  }
  return [...byUid.values()]
}

/**
 * Tags of an address behind which these devices stand: only what every one of them bears, because a packet does not say whose it is.
 * Nothing once the snapshot is stale.
 * @param staleMs how long after the last word of the EMS the snapshot counts
 * @returns tag name → ms at which it ends unless something is confirmed before
 */
export function sharedTagsOf(devices: readonly DeviceSight[], snapshot: Snapshot, staleMs: number, now: number): Map<string, number> {
  const fresh = staleness(snapshot.currentAt, { afterMs: staleMs, holdMs: 0 }, 'decide', now)
  const [first, ...others] = once(devices)
  if (!fresh.ok || first === undefined) return new Map()
  const more = others.map((device) => tagsOf(device, snapshot, now))
  const shared = new Map<string, number>()
  for (const [name, until] of tagsOf(first, snapshot, now)) {
    const ends = [until, fresh.until, ...more.map((tags) => tags.get(name) ?? 0)]
    if (Math.min(...ends) > now) shared.set(name, Math.min(...ends))
  }
  return shared
}
