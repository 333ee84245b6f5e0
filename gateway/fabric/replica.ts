// What this gateway holds of the EMS's tables: one immutable snapshot, replaced in one step, and how far each table is known. It asks nobody.
import type { EndpointRecord } from '../../domain/access/endpoint-record.ts'
import { allEndpoints, emptySnapshot, endpointByUid, nextSnapshot, type Snapshot } from '../../domain/access/snapshot.ts'
import type { Changed, ChangeCause } from '../world.ts'
import { untoldTags, type SystemFacts, type TagFacts } from './records.ts'

/** The tables that decisions need, in the order in which they are read. */
export const followedTables = ['sysinfo', 'uid_tags', 'host_tags'] as const
export type FollowedTable = (typeof followedTables)[number]
export const isFollowed = (table: string): table is FollowedTable => (followedTables as readonly string[]).includes(table)
/** Table → watermark up to which it is known; `''`: nothing is. */
export type Held = Readonly<Record<FollowedTable, string>>

/** How the EMS is heard: it tells (`socket`), or it is asked where no websocket can be had (`polling`). */
export const waysOfHearing = ['socket', 'polling'] as const
export type HeardBy = (typeof waysOfHearing)[number]

export interface ReplicaState {
  readonly snapshot: Snapshot
  /** Tags of endpoints whose record has not come yet: the tables are read one after the other. */
  readonly early: ReadonlyMap<string, TagFacts>
  readonly held: Held
  /** By which way the EMS last said that this is all; absent: it never did. */
  readonly heardBy?: HeardBy
}
export const emptyState: ReplicaState = { snapshot: emptySnapshot, early: new Map(), held: { sysinfo: '', uid_tags: '', host_tags: '' } }

/** Changes that will become visible together. */
export interface Draft {
  system(uid: string, facts: SystemFacts | null): void
  tags(uid: string, facts: TagFacts | null): void
  /** Everything there is: endpoints that it does not name are gone. */
  wholeSystem(facts: ReadonlyMap<string, SystemFacts>): void
  /** Tags of every endpoint: of those it does not name nothing is known. */
  wholeTags(facts: ReadonlyMap<string, TagFacts>): void
  wholeTagNames(names: ReadonlyMap<string, string>): void
  moreTagNames(names: ReadonlyMap<string, string>): void
  hold(table: FollowedTable, watermark: string): void
  /** The EMS said at `at` (ms, our clock) that up to `revision` all is told, and all of it is held. */
  current(revision: string, at: number, by?: HeardBy): void
}

export interface Replica {
  state(): ReplicaState
  snapshot(): Snapshot
  /** Whether an increment that continues from `after` may be applied to what is held. */
  continues(table: FollowedTable, after: string): boolean
  /** Replaces the snapshot by the one that `write` describes, then tells the listeners, in the same tick. When `write` throws, nothing changes. */
  commit(write: (draft: Draft) => void, cause?: ChangeCause): void
  /** Forgets everything: from now on there is no snapshot to decide from. */
  forget(): void
  onChange(listener: (changed: Changed, cause: ChangeCause) => void): () => void
}

const sameNames = (held: ReadonlyMap<string, string>, more: ReadonlyMap<string, string>) => [...more].every(([uid, name]) => held.get(uid) === name)

/** @param initial what was kept on disk */
export function createReplica(initial: ReplicaState = emptyState): Replica {
  let state = initial
  /** Watermarks of the last notice per table. `held` runs ahead of them at each `current`, which speaks for all tables. */
  let noticed: Held = initial.held
  const listeners = new Set<(changed: Changed, cause: ChangeCause) => void>()
  const replace = (next: ReplicaState, changed: Changed, cause: ChangeCause) => {
    state = next
    for (const listener of listeners) listener(changed, cause)
  }

  function commit(write: (draft: Draft) => void, cause: ChangeCause = {}): void {
    const { snapshot } = state
    const endpoints = new Map<string, EndpointRecord | null>()
    const { early: earlier } = state
    /** Copied when first touched: whoever keeps it on disk knows by identity what did not change. */
    let early: Map<string, TagFacts> | null = null
    const ownEarly = () => (early ??= new Map(earlier))
    const held = { ...state.held }
    const heard = { ...noticed }
    let tagNames: ReadonlyMap<string, string> | undefined
    let whole = false
    let all = false
    let told: { revision: string; currentAt: number } | undefined
    let { heardBy } = state
    const known = (uid: string) => (endpoints.has(uid) ? endpoints.get(uid) ?? undefined : whole ? undefined : endpointByUid(snapshot, uid))
    const system = (uid: string, facts: SystemFacts | null, before: EndpointRecord | undefined) => {
      const waiting = (early ?? earlier).get(uid)
      if (waiting !== undefined) ownEarly().delete(uid)
      endpoints.set(uid, facts === null ? null : { ...untoldTags, ...before, ...waiting, ...facts })
    }
    const draft: Draft = {
      system: (uid, facts) => system(uid, facts, known(uid)),
      tags(uid, facts) {
        const record = known(uid)
        if (record !== undefined) endpoints.set(uid, { ...record, ...facts ?? untoldTags })
        else if (facts !== null) ownEarly().set(uid, facts)
        else if ((early ?? earlier).has(uid)) ownEarly().delete(uid)
      },
      wholeSystem(facts) {
        endpoints.clear()
        whole = all = true
        for (const [uid, each] of facts) system(uid, each, endpointByUid(snapshot, uid))
      },
      wholeTags(facts) {
        all = true
        early = new Map()
        for (const { uid } of allEndpoints(snapshot)) draft.tags(uid, facts.get(uid) ?? null)
        for (const [uid, each] of facts) if (known(uid) === undefined) ownEarly().set(uid, each)
      },
      wholeTagNames(names) {
        if (names.size === snapshot.tagNames.size && sameNames(snapshot.tagNames, names)) return
        tagNames = names
        all = true
      },
      moreTagNames(names) {
        const base = tagNames ?? snapshot.tagNames
        if (sameNames(base, names)) return
        tagNames = new Map([...base, ...names])
        all = true
      },
      hold(table, watermark) {
        held[table] = watermark
        heard[table] = watermark
      },
      current(revision, at, by = 'socket') {
        told = { revision, currentAt: at }
        heardBy = by
        for (const table of followedTables) held[table] = revision
      },
    }
    write(draft)
    noticed = heard
    const next = nextSnapshot(snapshot, { ...(whole || endpoints.size > 0 ? { endpoints, whole } : {}), tagNames, ...told })
    replace({ snapshot: next, early: early ?? earlier, held, ...(heardBy === undefined ? {} : { heardBy }) }, all ? 'all' : new Set(endpoints.keys()), cause)
  }

  return {
    state: () => state,
    snapshot: () => state.snapshot,
    continues: (table, after) => after !== '' && (state.held[table] === after || noticed[table] === after),
    commit,
    forget() {
      noticed = emptyState.held
      replace(emptyState, 'all', {})
    },
    onChange(listener) {
      listeners.add(listener)
      return () => {
        listeners.delete(listener)
      }
    },
  }
}
