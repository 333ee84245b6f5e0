// What the primary and its workers say to each other, in order, by structured clone. Nothing of it comes from the network.
import type { Decision } from '../../protocol/decisions.ts'
import type { EndpointRecord } from '../../domain/access/endpoint-record.ts'
import type { Proved } from '../../domain/access/identify.ts'
import type { KeyPair } from '../proxy/key-pairs.ts'
import type { ProxyIdentity, ProxyOptions } from '../proxy/start.ts'
import type { TraceSettings } from '../traces/traces.ts'
import type { ChangeCause, Changed } from '../world.ts'

/** What a worker is told at its birth. */
export interface WorkerSetting {
  /** From 1; a worker that takes another's place has its number. */
  readonly slot: number
  readonly serial: string
  readonly stateDirectory: string
  readonly policiesFile: string
  readonly listen: { readonly host: string; readonly port: number }
  /** Its share. */
  readonly limits: NonNullable<ProxyOptions['limits']>
  readonly logLevel: string
  /** null: no traces. */
  readonly traces: TraceSettings | null
  readonly shared: Shared
}

/** What all have alike; told anew, whole, whenever a part of it changes. */
export interface Shared {
  readonly identity: ProxyIdentity
  readonly authorities: readonly string[]
  /** Keys of session tickets: a session that one worker began is resumed by each. */
  readonly tickets: Uint8Array
  readonly publicCertificate: KeyPair | null
  readonly alsoRefused: readonly string[]
}

/** One step from a snapshot to the next. `part` goes before the `change` that it belongs to: a reload is too large for one message. */
export interface SnapshotStep {
  /** Counts steps of one worker, from 1. */
  readonly step: number
  /** The records that are new or gone, beside those of the parts before. */
  readonly records: readonly (readonly [uid: string, record: EndpointRecord | null])[]
  readonly revision: string
  readonly currentAt: number | null
  /** All tags; absent: as before. */
  readonly tagNames?: ReadonlyMap<string, string>
  readonly changed: Changed
  readonly cause: ChangeCause
}

export type ToWorker =
  | { readonly do: 'start'; readonly setting: WorkerSetting }
  | { readonly do: 'part'; readonly records: SnapshotStep['records'] }
  | ({ readonly do: 'change' } & SnapshotStep)
  | { readonly do: 'share'; readonly shared: Shared }
  | { readonly do: 'answer'; readonly question: number; readonly answered: boolean }
  | { readonly do: 'measure'; readonly question: number }
  | { readonly do: 'cut'; readonly session: string; readonly denied: Decision }
  | { readonly do: 'drain'; readonly graceMs: number }
  | { readonly do: 'close' }

export type FromWorker =
  | { readonly event: 'ready' }
  | { readonly event: 'listening'; readonly port: number }
  | { readonly event: 'failed'; readonly reason: string }
  | { readonly event: 'applied'; readonly step: number }
  | { readonly event: 'lookup'; readonly question: number; readonly uid: string }
  | { readonly event: 'measured'; readonly question: number; readonly metrics: readonly object[] }
  | { readonly event: 'proved'; readonly connection: number; readonly peer: Proved; readonly address: string }
  | { readonly event: 'gone'; readonly connection: number }
  | { readonly event: 'cut'; readonly session: string; readonly denied: Decision }
  | { readonly event: 'drained' }
