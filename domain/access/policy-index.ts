// The policies of one service, arranged so that only those are evaluated which a device's tags could satisfy. Built at reload.
import type { EndpointRecord } from './endpoint-record.ts'
import type { Policy } from './policy.ts'
import type { Snapshot } from './snapshot.ts'

/** Tags as this service's policies number them, resolved against the tags that the EMS has told. */
interface Numbering {
  readonly tagNames: Snapshot['tagNames']
  readonly numbers: ReadonlyMap<string, number>
  /** 1 at the number of each name that the EMS never told: it is unknown for everybody. */
  readonly untold: Uint8Array
  /** Written anew by each decision, which is taken in one go: two allocations less for every request. */
  readonly possible: Uint8Array
  readonly marked: Uint32Array
}

export interface ServicePolicies {
  /** Enabled ones, in their order. */
  readonly policies: readonly Policy[]
  /** Tag name → its number here. */
  readonly numbers: ReadonlyMap<string, number>
  /** One bit a position: set for those that no single tag rules out. */
  readonly always: Uint32Array
  /**
   * Per tag number, the policies that can't match while it is absent, one after the other: position, how many more of `all`, how many of `any`, then
   * these by number, the rarest first. Flat, because it is read for every decision. A policy with `any` alone stands under each of its tags.
   */
  readonly byTag: readonly Int32Array[]
  /** The same for policies that allow nobody but certain users, under each as written and in lower case, or members of certain groups. */
  readonly byUser: ReadonlyMap<string, Int32Array>
  readonly byGroup: ReadonlyMap<string, Int32Array>
  /** Positions of the enforced ones that allow: what a refusal is explained by. */
  readonly allowing: readonly number[]
}

const mark = (bits: Uint32Array, position: number): void => {
  bits[position >>> 5] = (bits[position >>> 5] ?? 0) | (1 << (position & 31))
}

/** Rows under keys, and how many policies ask for each key. */
class Keyed<K> {
  readonly #rows = new Map<K, number[]>()
  readonly #uses = new Map<K, number>()
  count(keys: readonly K[]): void {
    for (const key of keys) this.#uses.set(key, this.uses(key) + 1)
  }
  uses(key: K): number {
    return this.#uses.get(key) ?? 0
  }
  /** As a policy would stand under each of the keys: how many others do at worst, and what puts it there. */
  place(keys: readonly K[], row: readonly number[]): Placed[] {
    const put = () => keys.forEach((key) => {
      const rows = this.#rows.get(key)
      if (rows === undefined) this.#rows.set(key, [...row])
      else rows.push(...row)
    })
    return keys.length === 0 ? [] : [{ crowd: Math.max(...keys.map((key) => this.uses(key))), put }]
  }
  flat(): Map<K, Int32Array> {
    return new Map([...this.#rows].map(([key, rows]) => [key, Int32Array.from(rows)]))
  }
}
interface Placed { readonly crowd: number; readonly put: () => void }

/** Users and groups by which a policy is found. One that denies does so on whom nobody vouched for: no user rules it out. */
const wantedPeople = ({ action, user }: Policy) => ({
  users: action === 'allow' ? [...new Set([...user?.users ?? []].flatMap((each) => [each, each.toLowerCase()]))] : [],
  groups: action === 'allow' ? [...user?.groups ?? []] : [],
})

/** Arranges policies. Each stands where the fewest others do: a tag that every policy asks for tells none apart. */
export function indexPolicies(policies: readonly Policy[]): ServicePolicies {
  const numbers = new Map([...new Set(policies.flatMap(({ all, any }) => [...all, ...any]))].map((name, number) => [name, number]))
  const numbered = (names: readonly string[]) => [...new Set(names)].map((name) => numbers.get(name) ?? -1)
  const wanted = policies.map((policy) => ({ all: numbered(policy.all), any: numbered(policy.any), ...wantedPeople(policy) }))
  const [byTag, byUser, byGroup] = [new Keyed<number>(), new Keyed<string>(), new Keyed<string>()]
  for (const { all, any, users, groups } of wanted) {
    byTag.count(all.length > 0 ? all : any)
    byUser.count(users)
    byGroup.count(groups)
  }
  const always = new Uint32Array(Math.ceil(policies.length / 32))
  wanted.forEach(({ all: unsorted, any, users, groups }, position) => {
    const all = unsorted.toSorted((a, b) => byTag.uses(a) - byTag.uses(b))
    const [rarest, ...others] = all
    const row = (more: readonly number[]) => [position, more.length, any.length, ...more, ...any]
    const places = [...byTag.place(rarest === undefined ? any : [rarest], row(others)), ...byUser.place(users, row(all)), ...byGroup.place(groups, row(all))]
    const [best] = places.sort((a, b) => a.crowd - b.crowd)
    if (best === undefined) mark(always, position)
    else best.put()
  })
  const tagRows = byTag.flat()
  return {
    policies, numbers, always, byTag: Array.from(numbers, (_, number) => tagRows.get(number) ?? new Int32Array()), byUser: byUser.flat(), byGroup: byGroup.flat(),
    allowing: policies.flatMap(({ action, mode }, position) => (action === 'allow' && mode === 'enforce' ? [position] : [])),
  }
}

const numberings = new WeakMap<ServicePolicies, Numbering>()

/** Made anew only when the EMS tells other tags. */
function numberingOf(index: ServicePolicies, { tagNames, tagsByName }: Snapshot): Numbering {
  const kept = numberings.get(index)
  if (kept?.tagNames === tagNames) return kept
  const numbers = new Map([...tagNames].flatMap(([uid, name]): [string, number][] => {
    const number = index.numbers.get(name)
    return number === undefined ? [] : [[uid, number]]
  }))
  const untold = Uint8Array.from(index.numbers.keys(), (name) => (tagsByName.has(name) ? 0 : 1))
  const made = { tagNames, numbers, untold, possible: new Uint8Array(untold.length), marked: new Uint32Array(index.always.length) }
  numberings.set(index, made)
  return made
}

/** Writes 1 at the number of each tag that is not certainly absent. */
function writePossible({ numbers, untold, possible }: Numbering, record: EndpointRecord): void {
  if (!record.tagsKnown) {
    possible.fill(1)
    return
  }
  possible.set(untold)
  for (const uid of record.tags.keys()) {
    const number = numbers.get(uid)
    if (number !== undefined) possible[number] = 1
  }
  for (const uid of record.unknown) {
    const number = numbers.get(uid)
    if (number !== undefined) possible[number] = 1
  }
}

/** Marks those of a key's policies that could match: no tag of `all`, nor every tag of `any`, is certainly absent. */
function markPossible(rows: Int32Array, possible: Uint8Array, marked: Uint32Array): void {
  for (let at = 0, end = 0; at < rows.length; at = end) {
    const anyFrom = at + 3 + (rows[at + 1] ?? 0)
    end = anyFrom + (rows[at + 2] ?? 0)
    let each = at + 3
    while (each < anyFrom && possible[rows[each] ?? 0] === 1) each++
    if (each < anyFrom) continue
    while (each < end && possible[rows[each] ?? 0] !== 1) each++
    if (each < end || anyFrom === end) mark(marked, rows[at] ?? 0)
  }
}

/**
 * Marks the policies that could match a device; of the others a tag is certainly absent, or they allow other users.
 * @param record null: somebody without a device
 * @param people rows in which its user stands
 * @returns one bit a position, valid until the next call
 */
export function markCandidates(index: ServicePolicies, record: EndpointRecord | null, people: readonly Int32Array[], snapshot: Snapshot): Uint32Array {
  if (record === null) return index.always
  const numbering = numberingOf(index, snapshot)
  const { possible, marked } = numbering
  writePossible(numbering, record)
  marked.set(index.always)
  for (let number = 0; number < index.byTag.length; number++) {
    const rows = index.byTag[number]
    if (possible[number] === 1 && rows !== undefined) markPossible(rows, possible, marked)
  }
  for (const rows of people) markPossible(rows, possible, marked)
  return marked
}
