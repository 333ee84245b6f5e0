// A world that the test holds: records of laptops, tags, and how long ago the EMS spoke.
import type { EndpointRecord } from '../../../domain/access/endpoint-record.ts'
import { emptySnapshot, nextSnapshot, type SnapshotChanges } from '../../../domain/access/snapshot.ts'
import type { ChangeCause, Changed, World } from '../../../gateway/world.ts'

export const HEALTHY = '00000000-0000-4000-8000-000000000001'
export const FINANCE = '00000000-0000-4000-8000-000000000002'
export const uidOf = (number: number): string => number.toString(16).padStart(32, '0')
export const serialOf = (number: number): string => number.toString(16).toUpperCase().padStart(40, '0')

export const laptopRecord = (number: number, over: Partial<EndpointRecord> = {}): EndpointRecord => ({
  uid: uidOf(number), registered: true, online: true, onFabric: false, quarantined: false, hostName: `laptop-${number}`, addresses: [], macs: [],
  certificates: [{ serial: serialOf(number), purpose: 'agent', user: '', notAfter: 4_000_000_000_000 }],
  tagsKnown: true, tags: new Map([[HEALTHY, { validUntil: null }]]), unknown: new Set(), unknownUntil: null, ...over,
})

export interface HeldWorld extends World {
  change(changes: SnapshotChanges, changed?: Changed, cause?: ChangeCause): void
  /** Puts records in. */
  put(...records: EndpointRecord[]): void
  /** As when the EMS takes this gateway's authority away. */
  forget(): void
}

/** @param currentAt ms when the EMS last spoke */
export function holdWorld(currentAt: number): HeldWorld {
  const initial = nextSnapshot(emptySnapshot, { revision: '1.0000000000000000', currentAt, tagNames: new Map([[HEALTHY, 'healthy'], [FINANCE, 'Finance (EU)'.replaceAll(/[()]/g, '_')]]) })
  let snapshot = initial
  const listeners = new Set<(changed: Changed, cause: ChangeCause) => void>()
  const tell = (changed: Changed, cause: ChangeCause = {}) => {
    for (const listener of listeners) listener(changed, cause)
  }
  const change: HeldWorld['change'] = (changes, changed = new Set(changes.endpoints?.keys()), cause = {}) => {
    snapshot = nextSnapshot(snapshot, changes)
    tell(changed, cause)
  }
  return {
    snapshot: () => snapshot,
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    lookup: () => Promise.resolve(false),
    change,
    put: (...records) => change({ endpoints: new Map(records.map((record) => [record.uid, record])) }),
    forget() {
      snapshot = emptySnapshot
      tell('all')
    },
  }
}
