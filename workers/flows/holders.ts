// Who has any of some packages: read from the bits of those packages alone, a page of endpoints at a time.
import type { PackageHolder } from '../../protocol/advisory.ts'
import { ENDPOINTS_IN_WORD } from '../../schema/package.ts'
import { endpointsByNumbers, holdersFrom } from '../../schema/queries/packages.ts'
import type { Context } from '../context.ts'

/** Rows of bits in one look: more than there are packages, so that one word is always whole. */
const ROWS = 4_000
/** Looks for one page; where holders lie far apart, the next page goes on. */
const LOOKS = 8

interface Wanted { readonly id: number; readonly ecosystem: string; readonly name: string; readonly version: string }

/** Beyond 32 bits JavaScript's own operators do not reach. */
export function bitsOf(bits: number): number[] {
  const set: number[] = []
  for (let [rest, bit] = [bits, 0]; rest > 0; rest = Math.floor(rest / 2), bit++) if (rest % 2 === 1) set.push(bit)
  return set
}

/**
 * Registered endpoints, by their numbers.
 * @param wanted fewer than 4,000
 * @param after the number to begin with
 */
export async function holdersOf({ db }: Pick<Context, 'db'>, wanted: readonly Wanted[], after: number, limit: number): Promise<{ items: PackageHolder[]; next: number | null }> {
  const byId = new Map(wanted.map((each) => [each.id, each]))
  const items: PackageHolder[] = []
  let from = after
  for (let look = 0; look < LOOKS && items.length < limit; look++) {
    const rows = await holdersFrom(db, [...byId.keys()], Math.floor(from / ENDPOINTS_IN_WORD), ROWS)
    // The last word of a full answer may be cut off in the middle: the next look begins with it.
    const cut = rows.length === ROWS ? rows.at(-1)?.word ?? null : null
    const held = new Map<number, Wanted[]>()
    for (const { packageId, word, bits } of rows) {
      const of = byId.get(packageId)
      if (word === cut || of === undefined) continue
      for (const bit of bitsOf(bits)) {
        const number = word * ENDPOINTS_IN_WORD + bit
        if (number >= from) held.set(number, [...held.get(number) ?? [], of])
      }
    }
    const numbers = [...held.keys()].sort((a, b) => a - b)
    const asked = numbers.slice(0, limit - items.length)
    for (const { number, uid, hostName } of asked.length === 0 ? [] : await endpointsByNumbers(db, asked)) {
      items.push({ uid, hostName, packages: (held.get(number) ?? []).map(({ ecosystem, name, version }) => ({ ecosystem, name, version })) })
    }
    const left = numbers[asked.length]
    if (left !== undefined || cut === null) return { items, next: left ?? null }
    from = cut * ENDPOINTS_IN_WORD
  }
  return { items, next: from }
}
