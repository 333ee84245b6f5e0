// All that other programs of this host say they see, by address and by MAC. Each source's word is replaced whole.
import type { ToldSight } from './told-sight.ts'

/** Tells which address is concerned, and which MACs. */
export type ToldListener = (address: string, macs: readonly string[]) => void

export class ToldSights {
  /** Source → address → sight. */
  readonly #bySource = new Map<string, ReadonlyMap<string, ToldSight>>()
  readonly #byMac = new Map<string, Set<string>>()
  readonly #changed: ToldListener

  constructor(changed: ToldListener) {
    this.#changed = changed
  }

  /** What holds at an address, by every source. @param now ms */
  at(address: string, now: number): ToldSight[] {
    return [...this.#bySource.values()].flatMap((sights) => sights.get(address) ?? []).filter(({ until }) => until > now)
  }

  addressesOf(mac: string): ReadonlySet<string> {
    return this.#byMac.get(mac) ?? new Set()
  }

  * addresses(): Generator<string> {
    for (const sights of this.#bySource.values()) yield* sights.keys()
  }

  macs(): Iterable<string> {
    return this.#byMac.keys()
  }

  replace(source: string, sights: readonly ToldSight[]): void {
    const before = this.#bySource.get(source) ?? new Map<string, ToldSight>()
    const next = new Map(sights.map((sight) => [sight.address, sight]))
    this.#bySource.set(source, next)
    const touched = [...new Set([...before.keys(), ...next.keys()])].filter((address) => {
      const [old, fresh] = [before.get(address), next.get(address)]
      return old?.mac !== fresh?.mac || old?.uid !== fresh?.uid || old?.until !== fresh?.until
    })
    for (const address of touched) {
      const macs = [before.get(address)?.mac, next.get(address)?.mac].filter((mac) => mac !== undefined && mac !== null)
      for (const mac of macs) this.#index(mac, address)
      this.#changed(address, [...new Set(macs)])
    }
  }

  #index(mac: string, address: string): void {
    const those = this.#byMac.get(mac) ?? new Set<string>()
    if ([...this.#bySource.values()].some((sights) => sights.get(address)?.mac === mac)) those.add(address)
    else those.delete(address)
    if (those.size === 0) this.#byMac.delete(mac)
    else this.#byMac.set(mac, those)
  }
}
