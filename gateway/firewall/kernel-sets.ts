// The kernel's sets in nftables' own words: the transaction that changes them, and the listing that says what is in them. It runs nothing.
import { z } from 'zod'
import { deviceAddress } from '../../domain/access/device-address.ts'
import { families, readSetName } from './element.ts'

export const TABLE = 'sallyport'

/** Set name → element → ms at which the kernel drops it; Infinity: never, so it is not by us. */
export type KernelSets = Map<string, Map<string, number>>
export interface KernelListing {
  readonly sets: KernelSets
  /** Sets under our names that are of another type: they can't be used. */
  readonly misshapen: readonly string[]
  /** Names of our sets that rules refer to: the kernel refuses to delete those. */
  readonly used: ReadonlySet<string>
}

/** One step of a transaction. `until` null: out of the set. */
export interface SetChange { readonly set: string; readonly element: string; readonly until: number | null }

/**
 * Writes one transaction: nftables does all of it or nothing.
 * An element is added, deleted and added: whether it is there, expired or bears another timeout then makes no difference.
 * @param now ms
 */
export function writeTransaction({ create, remove, changes, now }: { create: readonly string[]; remove: readonly string[]; changes: readonly SetChange[]; now: number }): string {
  const lines = [`add table inet ${TABLE}`]
  for (const name of create) {
    const read = readSetName(name)
    // The comment can't end early: tag names have neither quotes nor backslashes.
    if (read !== null) lines.push(`add set inet ${TABLE} ${name} { type ${families[read.family]}; flags timeout; comment "${read.tag}"; }`)
  }
  const bySet = Map.groupBy(changes, ({ set }) => set)
  for (const [set, those] of bySet) {
    const named = those.map(({ element }) => `${element} timeout 1m`).join(', ')
    lines.push(`add element inet ${TABLE} ${set} { ${named} }`, `delete element inet ${TABLE} ${set} { ${those.map(({ element }) => element).join(', ')} }`)
    const staying = those.flatMap(({ element, until }) => (until === null ? [] : [`${element} timeout ${Math.max(1, Math.ceil(until - now))}ms`]))
    if (staying.length > 0) lines.push(`add element inet ${TABLE} ${set} { ${staying.join(', ')} }`)
  }
  for (const name of remove) lines.push(`delete set inet ${TABLE} ${name}`)
  return `${lines.join('\n')}\n`
}

const element = z.union([
  z.string().transform((val) => ({ val, expires: undefined as number | undefined })),
  z.object({ elem: z.object({ val: z.string(), expires: z.number().optional() }) }).transform(({ elem }) => ({ val: elem.val, expires: elem.expires })),
])
const listedSet = z.object({ name: z.string(), type: z.unknown(), elem: z.array(z.unknown()).default([]) })
const listing = z.object({ nftables: z.array(z.record(z.string(), z.unknown())) })

/** Reads `nft -j list table inet sallyport`. Elements that no address can be (ranges, of somebody else's making) are named as they are. Throws on another form. */
export function readListing(text: string, now: number): KernelListing {
  const sets: KernelSets = new Map()
  const misshapen: string[] = []
  const used = new Set<string>()
  for (const entry of listing.parse(JSON.parse(text)).nftables) {
    if ('set' in entry) {
      const { name, type, elem } = listedSet.parse(entry['set'])
      const read = readSetName(name)
      if (read === null) continue
      if (type !== families[read.family]) {
        misshapen.push(name)
        continue
      }
      sets.set(name, new Map(elem.map((each) => {
        const { val, expires } = element.parse(each)
        return [deviceAddress(val) ?? val.toLowerCase(), expires === undefined ? Infinity : now + expires * 1000]
      })))
    } else for (const [, name = ''] of JSON.stringify(entry).matchAll(/"@([A-Za-z0-9_]+)"/g)) used.add(name)
  }
  return { sets, misshapen, used }
}
