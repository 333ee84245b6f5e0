// Keeps nftables' sets as the tagged addresses say: by transactions of what changed, compared with the kernel at the start, every minute and when somebody else changed them.
import { jitteredBackoff } from '../../node/backoff.ts'
import type { Log } from '../../node/logging.ts'
import type { Metrics } from '../metrics/metrics.ts'
import type { Timers } from '../proxy/timers.ts'
import type { Commands } from './commands.ts'
import { familyNames, setName } from './element.ts'
import { readListing, TABLE, writeTransaction, type KernelListing, type KernelSets, type SetChange } from './kernel-sets.ts'
import type { TaggedAddresses } from './tagged-addresses.ts'

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

/** An element is given this long at most: what a gateway that died has left behind ends by then. */
const LONGEST_MS = 180_000
const COMPARE_EVERY_MS = 60_000
const RENEW_EVERY_MS = 5_000
/** The kernel tells times left in whole seconds. */
const SLACK_MS = 2_000
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
      const [there, thought, wanted] = [sets.get(set), believed.get(set), addresses.elementsOf(set)]
      for (const [element, until] of thought ?? []) if (until > at + SLACK_MS && !there?.has(element)) lost++
      for (const [element, until] of there ?? []) {
        if (thought === undefined || until > (thought.get(element) ?? 0) + SLACK_MS) foreign++
        mark(set, element)
      }
      for (const element of wanted.keys()) mark(set, element)
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

  /** What must be written for one element: nothing when the kernel's end is near enough to the wanted one. */
  function changeOf(set: string, element: string, at: number): SetChange | null {
    const end = addresses.elementsOf(set).get(element) ?? 0
    const until = end > at ? Math.min(end, at + LONGEST_MS) : null
    const held = kernel.get(set)?.get(element)
    const isHeld = held !== undefined && held > at
    if (until === null) {
      if (!isHeld) kernel.get(set)?.delete(element)
      return isHeld ? { set, element, until } : null
    }
    // Shortened at once; prolonged when half of it is over.
    if (isHeld && until >= held - SLACK_MS && (until - at) <= 2 * (held - at)) return null
    return { set, element, until }
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
    const changes = [...marked].flatMap(([set, elements]) => [...elements].map((element) => changeOf(set, element, at)).filter((change) => change !== null))
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
  let monitor: { stop(): void } | null = null
  function watch(): void {
    monitor = commands.follow('nft', ['monitor'], {
      line(text) {
        // The kernel says who committed: `# new generation 12 by process 345 (nft)`. In a container it may count processes otherwise: then we look once more than needed.
        const by = /^# new generation \d+ by process (\d+)/.exec(text)?.[1]
        if ((by !== undefined && !ownPids.has(Number(by))) || text.startsWith('# ERROR')) compareSoon()
      },
      end(why) {
        if (closed) return
        log.warn({ event: 'filter-unwatched', reason: why }, 'Changes of the packet filter by others are noticed once a minute only, until it is watched again.')
        after('watch', 15_000, watch)
      },
    })
  }
  watch()
  return {
    tagsChanged() {
      mustCompare = true
      start()
    },
    async close() {
      closed = true
      leave()
      monitor?.stop()
      for (const cancel of cancels.values()) cancel()
      await working
    },
  }
}
