// Sources of connections in which a device proved its UID to the proxy: seen for as long as one is open, and a moment longer. It judges no certificate.
import { deviceAddress } from '../../domain/access/device-address.ts'
import type { ConnectionSight } from '../../domain/access/tagged-address.ts'
import type { ProvedPeer } from '../proxy/peer.ts'
import type { Timers } from '../../node/timers.ts'

interface Source { readonly address: string; readonly uid: string; readonly serial: string; open: number; until: number; cancelEnd: () => void }

export interface Connections {
  /** A proved connection is open. @param address as the socket tells it @returns to be called once when it has closed */
  opened(peer: ProvedPeer, address: string): () => void
  sightsOf(address: string): readonly ConnectionSight[]
  /** Addresses from which a device speaks. */
  addressesOf(uid: string): Iterable<string>
  addresses(): Iterable<string>
}

/** A device that comes back at once, over another connection, must not flap. */
export const LINGER_MS = 30_000
/** Beyond it further sources are not remembered: each costs its device a handshake, and none more than these. */
const MAX_PER_DEVICE = 8

export function createConnections({ timers, now, onChange }: { readonly timers: Timers; /** ms. */ readonly now: () => number; readonly onChange: (address: string) => void }): Connections {
  /** Address → UID and serial → source. */
  const byAddress = new Map<string, Map<string, Source>>()
  const byUid = new Map<string, Set<Source>>()

  function forget(source: Source): void {
    const those = byAddress.get(source.address)
    those?.delete(`${source.uid} ${source.serial}`)
    if (those?.size === 0) byAddress.delete(source.address)
    const own = byUid.get(source.uid)
    own?.delete(source)
    if (own?.size === 0) byUid.delete(source.uid)
    onChange(source.address)
  }

  function find(address: string, uid: string, serial: string): Source | null {
    const known = byAddress.get(address)?.get(`${uid} ${serial}`)
    if (known !== undefined) return known
    const own = byUid.get(uid) ?? new Set<Source>()
    if (own.size >= MAX_PER_DEVICE) return null
    const source: Source = { address, uid, serial, open: 0, until: 0, cancelEnd: () => {} }
    byUid.set(uid, own.add(source))
    byAddress.set(address, (byAddress.get(address) ?? new Map<string, Source>()).set(`${uid} ${serial}`, source))
    return source
  }

  return {
    opened({ commonName: uid, serial, purpose }, from) {
      // A browser's key can be carried to another machine by any program of its user: where it speaks from is nobody's sight.
      const address = purpose === 'agent' ? deviceAddress(from) : null
      const source = address === null ? null : find(address, uid, serial)
      if (source === null) return () => {}
      source.cancelEnd()
      source.open++
      source.until = Infinity
      if (source.open === 1) onChange(source.address)
      return () => {
        source.open--
        if (source.open > 0) return
        source.until = now() + LINGER_MS
        onChange(source.address)
        source.cancelEnd = timers.after(LINGER_MS, () => forget(source))
      }
    },
    sightsOf: (address) => [...byAddress.get(address)?.values() ?? []],
    addressesOf: (uid) => [...byUid.get(uid) ?? []].map(({ address }) => address),
    addresses: () => byAddress.keys(),
  }
}
