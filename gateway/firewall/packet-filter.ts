// Keeps nftables' sets as the tagged addresses say: by transactions of what changed, compared with the kernel at the start, every minute and when somebody else changed them.
import { jitteredBackoff } from '../../node/backoff.ts'
import type { Log } from '../../node/logging.ts'
import type { Metrics } from '../metrics/metrics.ts'
import type { Timers } from '../../node/timers.ts'
import type { Commands } from './commands.ts'
import { familyNames, setName } from './element.ts'
import { readListing, TABLE, writeTransaction, type KernelListing, type KernelSets } from './kernel-sets.ts'
import { neededChange, tampering } from './set-differences.ts'
import type { TaggedAddresses } from './tagged-addresses.ts'
import { watchFilter } from './watch-filter.ts'

interface Options {
  readonly commands: Commands
  readonly addresses: TaggedAddresses
  /** Names of the tags that need sets; null: they are not known now, and no set is deleted. */
  readonly tagNames: () => readonly string[] | null
  readonly metrics: Metrics
  readonly timers: Timers
  /** ms. */
  readonly now: () => number
  readonly log: Log
}

export interface PacketFilter {
  /** Tags came or went: their sets are made or taken away. */
  tagsChanged(): void
  close(): Promise<void>
}

const COMPARE_EVERY_MS = 60_000
const RENEW_EVERY_MS = 5_000
/** A storm of foreign changes must not become a storm of listings. */
const FOREIGN_SETTLE_MS = 50

/** Resolves when the kernel's sets are right. Throws when nftables can't be used. */
export async function keepPacketFilter({ commands, addresses, tagNames, metrics, timers, now, log }: Options): Promise<PacketFilter> {
  /** What the kernel holds, as far as it is known. */
  let kernel: KernelSets = new Map()
  let dirty = new Map<string, Set<string>>()
  let mustCompare = true
  let isFirst = true
  let causeAt: number | undefined
  let failures = 0
  let working: Promise<void> | null = null
  let isReady = false
  let isWaiting = false
  let closed = false
  const ownPids = new Set<number>()
  const cancels = new Map<string, () => void>()
  const after = (name: string, delayMs: number, action: () => void) => {
    cancels.get(name)?.()
    if (!closed) cancels.set(name, timers.after(delayMs, action))
  }

  const wantedSets = (): string[] => (tagNames() ?? []).flatMap((tag) => familyNames.map((family) => setName(family, tag)))
  const mark = (set: string, element: string) => dirty.set(set, (dirty.get(set) ?? new Set()).add(element))

  const nft = (args: readonly string[], input?: string) => commands.run('nft', args, input, (pid) => {
    ownPids.add(pid)
    if (ownPids.size > 64) ownPids.delete(ownPids.values().next().value ?? 0)
  })

  async function list(): Promise<KernelListing> {
    const { code, output, errors } = await nft(['-j', 'list', 'table', 'inet', TABLE])
    if (code === 0) return readListing(output, now())
    if (errors.includes('No such file or directory')) return { sets: new Map(), misshapen: [], used: new Set() }
    throw new Error(`nft list ended with ${code}: ${errors}`)
  }

  /** Takes over what the kernel holds and marks what is not as it should be. @returns sets that nobody needs */
  async function compare(): Promise<string[]> {
    const { sets, misshapen, used } = await list()
    if (misshapen.length > 0) throw new Error(`sets of another type stand under our names: ${misshapen.join(', ')}`)
    const at = now()
    const believed = kernel
    kernel = sets
    let lost = 0
    let foreign = 0
    for (const set of new Set([...sets.keys(), ...believed.keys(), ...wantedSets()])) {
      const found = tampering(sets.get(set), believed.get(set), at)
      lost += found.lost
      foreign += found.foreign
      for (const element of sets.get(set)?.keys() ?? []) mark(set, element)
      for (const element of addresses.elementsOf(set).keys()) mark(set, element)
    }
    if (lost + foreign > 0) {
      log[isFirst ? 'info' : 'warn']({ event: isFirst ? 'filter-compared' : 'filter-mended', lost, foreign }, isFirst
        ? 'The packet filter held elements of an earlier run; they are compared with what is known now.'
        : 'Somebody else changed the packet filter\'s sets; they are mended.')
      if (!isFirst) metrics.filterMended()
    }
    isFirst = false
    const needed = tagNames() === null ? null : new Set(wantedSets())
    return needed === null ? [] : [...sets.keys()].filter((set) => !needed.has(set) && !used.has(set))
  }

  async function work(): Promise<void> {
    const unneeded = mustCompare ? await compare() : []
    mustCompare = false
    const at = now()
    const since = causeAt
    causeAt = undefined
    const marked = dirty
    dirty = new Map()
    const create = [...new Set([...wantedSets(), ...marked.keys()])].filter((set) => !kernel.has(set))
    const changes = [...marked].flatMap(([set, elements]) => [...elements].flatMap((element) => {
      const [held, end] = [kernel.get(set)?.get(element), addresses.elementsOf(set).get(element)]
      // Ended by itself: the kernel has dropped it already.
      if (held !== undefined && held <= at) kernel.get(set)?.delete(element)
      return neededChange(set, element, { held, end, now: at }) ?? []
    }))
    if (create.length + changes.length + unneeded.length === 0) return
    const { code, errors } = await nft(['-f', '-'], writeTransaction({ create, remove: unneeded, changes, now: at }))
    if (code !== 0) throw new Error(`nft ended with ${code}: ${errors.slice(0, 500)}`)
    for (const set of create) kernel.set(set, new Map())
    for (const { set, element, until } of changes) {
      if (until === null) kernel.get(set)?.delete(element)
      else kernel.get(set)?.set(element, until)
    }
    for (const set of unneeded) kernel.delete(set)
    let count = 0
    for (const elements of kernel.values()) count += elements.size
    metrics.filterElements(count)
    if (since !== undefined) metrics.filtered(now() - since)
  }

  const workToDo = () => !closed && (mustCompare || dirty.size > 0)
  async function drain(): Promise<void> {
    while (workToDo()) {
      try {
        await work()
        if (failures > 0) log.info({ event: 'filter-recovered' }, 'The packet filter can be changed again.')
        failures = 0
      } catch (cause) {
        // Whatever was half known is asked of the kernel again.
        mustCompare = true
        if (failures === 0) log.error({ event: 'filter-failed', reason: cause instanceof Error ? cause.message : String(cause) }, 'The packet filter could not be changed; what it holds ends by its timeouts.')
        isWaiting = true
        after('retry', jitteredBackoff(failures++, { firstMs: 250, limitMs: 15_000 }), () => {
          isWaiting = false
          start()
        })
        return
      }
    }
  }
  function start(): void {
    if (!isReady || isWaiting || closed) return
    working ??= drain().finally(() => {
      working = null
      if (workToDo()) start()
    })
  }
  const compareSoon = () => after('foreign', FOREIGN_SETTLE_MS, () => {
    mustCompare = true
    start()
  })

  const leave = addresses.onChange((changes, { at }) => {
    for (const { set, element } of changes) mark(set, element)
    if (at !== undefined) causeAt = Math.min(causeAt ?? at, at)
    start()
  })
  try {
    // Outside of the loop that forgives: a gateway that can't filter must not say that it does.
    await work()
  } catch (cause) {
    leave()
    throw cause
  }
  isReady = true
  start()
  const everyMinute = () => {
    mustCompare = true
    start()
    after('compare', COMPARE_EVERY_MS, everyMinute)
  }
  const renew = () => {
    for (const [set, elements] of kernel) for (const element of elements.keys()) mark(set, element)
    start()
    after('renew', RENEW_EVERY_MS, renew)
  }
  after('compare', COMPARE_EVERY_MS, everyMinute)
  after('renew', RENEW_EVERY_MS, renew)
  const watch = watchFilter({ commands, isOwn: (pid) => ownPids.has(pid), onForeign: compareSoon, timers, log })
  return {
    tagsChanged() {
      mustCompare = true
      start()
    },
    async close() {
      closed = true
      leave()
      watch.stop()
      for (const cancel of cancels.values()) cancel()
      await working
    },
  }
}
