// Parts that many records have in common, kept once: 50,000 laptops bear a handful of tags, each named by the same few identifiers, and their users are in the same groups.
import type { VerifiedUser } from '../../protocol/identity.ts'
import type { TagFacts } from './records.ts'

type Tags = TagFacts['tags']
interface Told { readonly tags: readonly (readonly [tagUid: string, validUntil: number | null])[]; readonly unknown: readonly string[] }

/** Combinations that are remembered; beyond it all are forgotten, and records made later share among themselves. */
const MAX_REMEMBERED = 4_096
/** Characters of a list of groups that is remembered whole; of a longer one the names are. */
const MAX_LIST = 4_096
const always = { validUntil: null }
const sets = new Map<string, ReadonlySet<string>>()
const maps = new Map<string, Tags>()
const names = new Map<string, string>()
const lists = new Map<string, string[]>()

function remember<V>(known: Map<string, V>, key: string, make: () => V): V {
  const before = known.get(key)
  if (before !== undefined) return before
  if (known.size >= MAX_REMEMBERED) known.clear()
  const made = make()
  known.set(key, made)
  return made
}
const nameOf = (name: string): string => remember(names, name, () => name)

/** Tags and unknown ones in the form that records hold. What is equal is the same object: records are replaced, never edited. */
export function sharedTags({ tags, unknown }: Told): Pick<TagFacts, 'tags' | 'unknown'> {
  const entries = () => new Map(tags.map(([tagUid, validUntil]) => [nameOf(tagUid), validUntil === null ? always : { validUntil }]))
  const lasting = tags.every(([, validUntil]) => validUntil === null)
  return {
    tags: lasting ? remember(maps, tags.map(([tagUid]) => tagUid).join(), entries) : entries(),
    unknown: remember(sets, unknown.join(), () => new Set(unknown.map(nameOf))),
  }
}

function sharedGroups(groups: readonly string[]): string[] {
  // A set without order, as far as anybody may ask: sorted, the same groups are the same list.
  const sorted = [...new Set(groups)].sort()
  const key = sorted.join('\n')
  const make = () => sorted.map(nameOf)
  return key.length > MAX_LIST ? make() : remember(lists, key, make)
}

/** A verified user in the form that records hold. */
export function sharedUser({ groups, ...user }: VerifiedUser): VerifiedUser {
  return { ...user, issuer: nameOf(user.issuer), ...(groups === undefined ? {} : { groups: sharedGroups(groups) }) }
}
