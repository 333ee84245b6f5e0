// The kernel's neighbour table as this gateway has followed it: which MAC answered for which address, and when that was last certain. It starts no program.
import { z } from 'zod'
import { deviceAddress, deviceMac } from '../../domain/access/device-address.ts'

/** One entry as the kernel tells it; null MAC: nobody answered. */
export interface NeighbourEntry { readonly address: string; readonly link: string; readonly mac: string | null; readonly state: string }
/** `seenAt`: ms when the pair was last confirmed; Infinity for an entry that an administrator made permanent. */
export interface Neighbour { readonly address: string; readonly link: string; readonly mac: string; readonly seenAt: number }

/** States in which the kernel would send to that MAC. The others say that nobody answers, or that nobody needs to. */
const live = new Set(['REACHABLE', 'STALE', 'DELAY', 'PROBE', 'PERMANENT'])
const listed = z.array(z.object({
  dst: z.string(), dev: z.string(), lladdr: z.string().optional(), state: z.array(z.string()), confirmed: z.number().optional(), updated: z.number().optional(),
}))

/** Reads a line of `ip monitor neigh`: `[Deleted ]ADDRESS dev LINK [lladdr MAC] [router] [proxy …] STATE`; null when it tells of no device's address. */
export function readNeighbourEvent(line: string): NeighbourEntry | null {
  const words = line.trim().split(/\s+/)
  const deleted = words[0] === 'Deleted'
  const [first = '', ...rest] = deleted ? words.slice(1) : words
  const address = deviceAddress(first)
  const after = (word: string) => (rest.includes(word) ? rest[rest.indexOf(word) + 1] : undefined)
  const link = after('dev')
  if (address === null || link === undefined || rest.includes('proxy')) return null
  return { address, link, mac: deviceMac(after('lladdr') ?? ''), state: deleted ? 'DELETED' : rest.at(-1) ?? '' }
}

/** Tells which addresses and MACs are concerned. */
export type NeighbourListener = (address: string, macs: readonly string[]) => void

export class NeighbourTable {
  readonly #byAddress = new Map<string, Map<string, Neighbour>>()
  readonly #byMac = new Map<string, Set<string>>()
  /** Entries of which events came while a listing was under way: what they said is newer than the listing. */
  #touched: Set<string> | null = null
  readonly #changed: NeighbourListener

  constructor(changed: NeighbourListener) {
    this.#changed = changed
  }

  entriesOf(address: string): Neighbour[] {
    return [...this.#byAddress.get(address)?.values() ?? []]
  }

  addressesOf(mac: string): ReadonlySet<string> {
    return this.#byMac.get(mac) ?? new Set()
  }

  addresses(): Iterable<string> {
    return this.#byAddress.keys()
  }

  macs(): Iterable<string> {
    return this.#byMac.keys()
  }

  /** Takes an event over. @param now ms */
  apply(entry: NeighbourEntry, now: number): void {
    const { address, link, mac, state } = entry
    this.#touched?.add(`${address} ${link}`)
    if (mac === null || !live.has(state)) return this.#remove(address, link)
    const before = this.#byAddress.get(address)?.get(link)
    // A new pair, or one that was just confirmed. That a known one grew old, or is being asked, is no sight of it.
    const isSight = state === 'REACHABLE' || before === undefined || before.mac !== mac
    this.#put({ address, link, mac, seenAt: state === 'PERMANENT' ? Infinity : isSight || before.seenAt === Infinity ? now : before.seenAt })
  }

  /** A listing is about to be asked for. */
  beginListing(): void {
    this.#touched = new Set()
  }

  /** Takes over what `ip -s -j neigh show` listed: the whole truth but for events that came meanwhile. Throws when it is of another form. */
  takeListing(text: string, now: number): void {
    const rows = listed.parse(JSON.parse(text === '' ? '[]' : text))
    const touched = this.#touched ?? new Set()
    this.#touched = null
    const seen = new Set(touched)
    for (const { dst, dev: link, lladdr = '', state, confirmed = Infinity, updated = Infinity } of rows) {
      const address = deviceAddress(dst)
      const mac = deviceMac(lladdr)
      if (address === null || mac === null || !state.some((each) => live.has(each)) || touched.has(`${address} ${link}`)) continue
      seen.add(`${address} ${link}`)
      const before = this.#byAddress.get(address)?.get(link)
      // An entry made by a neighbour's own question was never confirmed, but was just updated.
      const ago = (before?.mac === mac ? confirmed : Math.min(confirmed, updated)) * 1000
      this.#put({ address, link, mac, seenAt: state.includes('PERMANENT') ? Infinity : Math.max(now - ago, before?.mac === mac && before.seenAt !== Infinity ? before.seenAt : 0) })
    }
    for (const [address, entries] of this.#byAddress) for (const link of entries.keys()) if (!seen.has(`${address} ${link}`)) this.#remove(address, link)
  }

  #put(neighbour: Neighbour): void {
    const { address, link, mac } = neighbour
    const entries = this.#byAddress.get(address) ?? new Map<string, Neighbour>()
    const before = entries.get(link)
    this.#byAddress.set(address, entries.set(link, neighbour))
    if (before !== undefined && before.mac !== mac) this.#forgetMac(before.mac, address)
    const those = this.#byMac.get(mac) ?? new Set<string>()
    this.#byMac.set(mac, those.add(address))
    if (before?.mac !== mac || before.seenAt !== neighbour.seenAt) this.#changed(address, before === undefined || before.mac === mac ? [mac] : [mac, before.mac])
  }

  #remove(address: string, link: string): void {
    const entries = this.#byAddress.get(address)
    const before = entries?.get(link)
    if (entries === undefined || before === undefined) return
    entries.delete(link)
    if (entries.size === 0) this.#byAddress.delete(address)
    this.#forgetMac(before.mac, address)
    this.#changed(address, [before.mac])
  }

  /** Unless another link shows the same pair. */
  #forgetMac(mac: string, address: string): void {
    if (this.entriesOf(address).some((entry) => entry.mac === mac)) return
    const those = this.#byMac.get(mac)
    those?.delete(address)
    if (those?.size === 0) this.#byMac.delete(mac)
  }
}
