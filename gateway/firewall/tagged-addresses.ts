// Which addresses and MACs bear which Zero Trust tag, by what this gateway has seen: kept at the cost of what changed. Filter and lists read it.
import { devicesBehind, neighboursBehind, sharedTagsOf, type AddressSight, type DeviceSight } from '../../domain/access/tagged-address.ts'
import { staleness } from '../../domain/access/staleness.ts'
import type { Log } from '../../node/logging.ts'
import type { Timers } from '../../node/timers.ts'
import type { ChangeCause, Changed, World } from '../world.ts'
import { createClaims, type Claims } from './claims.ts'
import { createConnections, type Connections } from './connections.ts'
import { familyOf, setName } from './element.ts'
import type { NeighbourTable } from './neighbour-table.ts'
import { ToldSights } from './sources/told-sights.ts'

/** Set name and element whose end (ms) changed; null: it is no longer in that set. */
export interface MembershipChange { readonly set: string; readonly element: string; readonly until: number | null }
export type MembershipListener = (changes: readonly MembershipChange[], cause: ChangeCause) => void

export interface TaggedAddresses {
  /** Elements of a set, by {@link setName}, each with its end (ms). One whose end has passed is in it no more. */
  elementsOf(set: string): ReadonlyMap<string, number>
  readonly connections: Connections
  readonly claims: Pick<Claims, 'claimantsOf'>
  /** What other programs of this host say they see. */
  readonly told: ToldSights
  /** The neighbour table saw, or no longer sees, an address with these MACs. */
  neighbourChanged(address: string, macs: readonly string[]): void
  /** Computes everything anew: the neighbour table has just been read. */
  refreshAll(): void
  /** False once what is known is too old, or may no longer be used: every set is empty then. */
  isFresh(): boolean
  onChange(listener: MembershipListener): () => void
  close(): void
}

interface Options {
  readonly world: World
  readonly neighbours: () => NeighbourTable | null
  /** Something was seen, or is no longer seen, at an address. */
  readonly onSight: (address: string) => void
  /** How long a sight counts that nothing confirms. */
  readonly sightMs: number
  /** How long after the last word of the EMS the snapshot counts. */
  readonly staleMs: number
  readonly timers: Timers
  /** ms. */
  readonly now: () => number
  readonly log: Log
}

const LOOK_EVERY_MS = 5_000

export function createTaggedAddresses({ world, neighbours, onSight, sightMs, staleMs, timers, now, log }: Options): TaggedAddresses {
  const claims = createClaims()
  const sets = new Map<string, Map<string, number>>()
  /** Element → the sets it is in. */
  const memberships = new Map<string, Map<string, number>>()
  const listeners = new Set<MembershipListener>()
  /** Addresses that several devices share, said once each. */
  const warned = new Set<string>()
  let pending: Set<string> | null = null
  /** The EMS's last word that every element was computed with. */
  let computedFor = 0
  const isFresh = () => staleness(world.snapshot().currentAt, { afterMs: staleMs, holdMs: 0 }, 'decide', now()).ok

  const connections = createConnections({
    timers, now,
    onChange(address) {
      soon([address])
      onSight(address)
    },
  })

  const told = new ToldSights((address, macs) => {
    soon([address, ...macs])
    onSight(address)
  })

  function sightOf(address: string): AddressSight {
    const entries = neighbours()?.entriesOf(address) ?? []
    const others = told.at(address, now())
    const leases = others.flatMap(({ mac, until }) => (mac === null ? [] : [{ mac, until }]))
    return {
      address, macs: [...new Set([...entries, ...leases].map(({ mac }) => mac))],
      // A clock that was set back must not make a sight last longer.
      neighbourUntil: Math.max(0, ...entries.map(({ seenAt }) => Math.min(seenAt, now()) + sightMs), ...leases.map(({ until }) => until)),
      connections: connections.sightsOf(address), clients: others.filter(({ mac }) => mac === null),
    }
  }

  function devicesAt(element: string, at: number): DeviceSight[] {
    if (familyOf(element) !== 'mac') return devicesBehind(sightOf(element), claims.claimantsOf(element), world.snapshot(), at)
    return [...new Set([...neighbours()?.addressesOf(element) ?? [], ...told.addressesOf(element)])].flatMap((address) => neighboursBehind(sightOf(address), claims.claimantsOf(address), at))
  }

  function warnOfSharing(element: string, devices: readonly DeviceSight[]): void {
    const uids = [...new Set(devices.map(({ record }) => record.uid))].sort()
    const key = `${element} ${uids.join()}`
    if (uids.length < 2 || warned.has(key)) return
    if (warned.size > 1_000) warned.clear()
    warned.add(key)
    log.warn({ event: 'address-shared', address: element, uids: uids.slice(0, 16) }, 'Several devices stand behind one address: it bears only the tags that all of them bear.')
  }

  /** Computes anew what these elements bear. */
  function refresh(elements: Iterable<string>, cause: ChangeCause): void {
    const at = now()
    const snapshot = world.snapshot()
    const changes: MembershipChange[] = []
    for (const element of elements) {
      const devices = devicesAt(element, at)
      warnOfSharing(element, devices)
      const wanted = new Map<string, number>()
      for (const [tag, until] of sharedTagsOf(devices, snapshot, staleMs, at)) wanted.set(setName(familyOf(element), tag), until)
      const held = memberships.get(element) ?? new Map<string, number>()
      for (const set of held.keys()) {
        if (wanted.has(set)) continue
        sets.get(set)?.delete(element)
        changes.push({ set, element, until: null })
      }
      for (const [set, until] of wanted) {
        if (held.get(set) === until) continue
        const members = sets.get(set) ?? new Map<string, number>()
        sets.set(set, members.set(element, until))
        changes.push({ set, element, until })
      }
      if (wanted.size === 0) memberships.delete(element)
      else memberships.set(element, wanted)
    }
    if (changes.length > 0) for (const listener of listeners) listener(changes, cause)
  }

  const isSeen = (element: string) => memberships.has(element) || connections.sightsOf(element).length > 0
    || (neighbours()?.entriesOf(element).length ?? 0) > 0 || (neighbours()?.addressesOf(element).size ?? 0) > 0 || told.at(element, now()).length > 0 || told.addressesOf(element).size > 0
  function* everything(): Generator<string> {
    const table = neighbours()
    yield* new Set([...memberships.keys(), ...connections.addresses(), ...table?.addresses() ?? [], ...table?.macs() ?? [], ...told.addresses(), ...told.macs()])
  }

  function refreshEverything(cause: ChangeCause): void {
    computedFor = world.snapshot().currentAt ?? 0
    refresh(everything(), cause)
  }

  /** Many neighbours may change in one burst: they are computed together, in the same turn of the loop. */
  function soon(elements: Iterable<string>): void {
    if (pending === null) {
      pending = new Set()
      queueMicrotask(() => {
        const those = pending ?? []
        pending = null
        refresh(those, {})
      })
    }
    for (const element of elements) pending.add(element)
  }

  const leave = world.onChange((changed: Changed, cause) => {
    const touched = claims.follow(world.snapshot(), changed)
    // After a long silence the ends of all elements are near, or past.
    if (changed === 'all' || (world.snapshot().currentAt ?? 0) - computedFor > staleMs / 4) return refreshEverything(cause)
    for (const uid of changed) for (const address of connections.addressesOf(uid)) touched.add(address)
    refresh([...touched].filter(isSeen), cause)
  })
  claims.follow(world.snapshot(), 'all')
  let cancel = () => {}
  // Ends move on as sights are confirmed and the EMS says that it is all; what has ended by time alone is taken out.
  const look = () => {
    refreshEverything({})
    cancel = timers.after(LOOK_EVERY_MS, look)
  }
  look()

  return {
    elementsOf: (set) => sets.get(set) ?? new Map(),
    connections, claims, told, isFresh,
    neighbourChanged(address, macs) {
      soon([address, ...macs])
      onSight(address)
    },
    refreshAll: () => refreshEverything({}),
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close() {
      leave()
      cancel()
    },
  }
}
