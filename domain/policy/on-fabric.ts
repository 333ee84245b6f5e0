// Whether a device is on the fabric: because a gateway that an administrator marked as the fabric's own sees it, never because the device says where it is.
import ipaddr from 'ipaddr.js'
import type { Sections } from '../../protocol/facts.ts'
import type { FabricPlace } from '../../protocol/fabric/place.ts'
import type { SightKind } from '../../protocol/fabric/sightings.ts'

export type Fabric = Sections['fabric']

/** A device that changes from cable to radio, or sleeps for a moment, must not lose what being here gives. A rule may hold it for less. */
export const HOLD_MS = 60_000

/**
 * Which sights of a gateway say that a device is here. A neighbour answered on a link of its own; a mutual TLS connection says so only from a
 * declared network, for it may come from anywhere. Whoever got an address of a VPN is elsewhere.
 * @param place null: the gateway is not marked, and nothing that it sees says so
 */
export function placeOf(place: FabricPlace | null): (kind: SightKind, ip: string) => boolean {
  if (place === null) return () => false
  const networks = place.networks.map((cidr) => ipaddr.parseCIDR(cidr))
  const isDeclared = (ip: string): boolean => {
    const address = ipaddr.process(ip)
    return networks.some(([network, bits]) => network.kind() === address.kind() && address.match([network, bits] as [ipaddr.IPv4, number] & [ipaddr.IPv6, number]))
  }
  return (kind, ip) => (kind === 'neighbour' ? place.neighbours : kind === 'mtls' && isDeclared(ip))
}

/** A gateway sees it. @param before null: nothing was known */
export const seenBy = (serial: string, before: Fabric | null, now: number): Fabric =>
  ({ on: true, checkedBy: serial, checkedAt: now, expiresAt: null, since: before !== null && isOn(before, now) ? before.since ?? before.checkedAt : now })
/** No gateway sees it any more; it is held for a moment. */
export const lost = (before: Fabric, now: number): Fabric => ({ ...before, heldUntil: now + HOLD_MS })
/** It is off the fabric. @param serial of the gateway that saw it last */
export const left = (serial: string, now: number): Fabric => ({ on: false, checkedBy: serial, checkedAt: now, expiresAt: null })

const isOn = ({ on, expiresAt, heldUntil }: Fabric, now: number): boolean => on && (expiresAt === null || expiresAt > now) && (heldUntil === undefined || heldUntil > now)
/**
 * What a stored check says at an instant.
 * @param holdMs how long whoever is seen no more counts as here, {@link HOLD_MS} at most
 * @returns `on` null: it has expired, and nobody knows; `ends`: when that changes by itself (ms); null: it does not
 */
export function fabricAt(told: Fabric, now: number, holdMs = HOLD_MS): { readonly on: boolean | null; readonly ends: number | null } {
  const fabric = told.heldUntil === undefined ? told : { ...told, heldUntil: told.heldUntil - HOLD_MS + holdMs }
  const { on, expiresAt, heldUntil } = fabric
  if (expiresAt !== null && expiresAt <= now) return { on: null, ends: null }
  const holds = on && heldUntil !== undefined && heldUntil > now
  const ends = [...expiresAt === null ? [] : [expiresAt], ...holds ? [heldUntil] : []]
  return { on: isOn(fabric, now), ends: ends.length === 0 ? null : Math.min(...ends) }
}
