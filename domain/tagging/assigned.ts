// Tags that are set, not given by rules: classification by people, fabric tags by whoever watches. What holds now, and what a setting or a clearing makes of it.
import type { Assignment, Tag, TagExplanation, TagState } from '../../protocol/rules.ts'
import { importanceTags, tagTypes } from '../../protocol/rules.ts'

/** Settings that one endpoint may bear: an automation gone wild must not grow every row of the log. */
export const MOST_ASSIGNED = 64

/** As stored with an endpoint. */
export const readAssigned = (text: string): Assignment[] => JSON.parse(text) as Assignment[]
/** Whether a setting holds at an instant (ms). */
export const holds = ({ until }: Pick<Assignment, 'until'>, now: number): boolean => until === null || until > now

/** The tags that are set and hold. One that several sources set lasts as long as the last of them. */
export function assignedStates(assigned: readonly Assignment[], now: number): TagState[] {
  const lasting = new Map<string, number | null>()
  for (const { tagUid, until } of assigned.filter((each) => holds(each, now))) {
    const before = lasting.get(tagUid)
    lasting.set(tagUid, before === null || until === null ? null : Math.max(before ?? until, until))
  }
  return [...lasting].map(([tagUid, validUntil]) => ({ tagUid, state: 'present', validUntil }))
}

/** What rules give and what is set, as one list by UID. No rule takes away what is set: a tag has one type, so that none is both. */
export function withAssigned(given: readonly TagState[], assigned: readonly Assignment[], now: number): TagState[] {
  const set = assignedStates(assigned, now)
  return [...given.filter(({ tagUid }) => !set.some((each) => each.tagUid === tagUid)), ...set].sort((a, b) => (a.tagUid < b.tagUid ? -1 : 1))
}
/** The part of an endpoint's tags that rules gave. */
export const givenByRules = (tags: readonly TagState[], assigned: readonly Assignment[]): TagState[] => tags.filter(({ tagUid }) => !assigned.some((each) => each.tagUid === tagUid))

/** ms: when the first tag that is set ends by itself; null: none does. */
export function endsNext(assigned: readonly Assignment[], now: number): number | null {
  const ends = assignedStates(assigned, now).flatMap(({ validUntil }) => validUntil ?? [])
  return ends.length === 0 ? null : Math.min(...ends)
}

/** Which tags are new or not as they were, and which are gone. */
export function tagChanges(before: readonly TagState[], after: readonly TagState[]): { readonly put: TagState[]; readonly gone: string[] } {
  const stored = new Map(before.map((tag) => [tag.tagUid, tag]))
  const put = after.filter(({ tagUid, state, validUntil }) => stored.get(tagUid)?.state !== state || stored.get(tagUid)?.validUntil !== validUntil)
  for (const { tagUid } of after) stored.delete(tagUid)
  return { put, gone: [...stored.keys()] }
}

type Type = keyof typeof tagTypes
const importances: readonly string[] = Object.values(importanceTags)
/** Each source of a fabric tag speaks for itself; what people classify stands once, whoever says it, and of importances only one. */
const replaces = (type: Type, { tagUid, source }: Pick<Assignment, 'tagUid' | 'source'>) => (each: Assignment): boolean =>
  (each.tagUid === tagUid && (type !== 4 || each.source === source)) || (importances.includes(tagUid) && importances.includes(each.tagUid))

/** With one more setting, without those that have ended. `unchanged`: it stands so already; `full`: the endpoint bears no more. */
export function assign(before: readonly Assignment[], type: Type, setting: Assignment): Assignment[] | 'unchanged' | 'full' {
  const replaced = before.filter(replaces(type, setting))
  const [same] = replaced
  if (replaced.length === 1 && same?.tagUid === setting.tagUid && same.source === setting.source && same.reason === setting.reason && same.until === setting.until) return 'unchanged'
  const others = before.filter((each) => !replaced.includes(each) && holds(each, setting.at))
  return others.length >= MOST_ASSIGNED ? 'full' : [...others, setting]
}

/** Without it. A fabric tag that another source set too stays. */
export function unassign(before: readonly Assignment[], type: Type, cleared: Pick<Assignment, 'tagUid' | 'source'>, now: number): Assignment[] | 'unchanged' {
  const goes = (each: Assignment) => each.tagUid === cleared.tagUid && (type !== 4 || each.source === cleared.source)
  return before.some(goes) ? before.filter((each) => !goes(each) && holds(each, now)) : 'unchanged'
}

/** Why an endpoint bears a tag, or bears it not, that no enabled rule set gives. */
export function explainAssigned({ uid: tagUid, name: tag, type }: Pick<Tag, 'uid' | 'name' | 'type'>, assigned: readonly Assignment[], now: number): TagExplanation {
  const [state] = assignedStates(assigned.filter((each) => each.tagUid === tagUid), now)
  const settings = assigned.filter((each) => each.tagUid === tagUid).sort((a, b) => b.at - a.at).map(({ source, reason, at, until }) => ({ source, reason, at, until }))
  return { tagUid, tag, state: state?.state ?? 'absent', validUntil: state?.validUntil ?? null, ruleSets: [], ...(type > 2 ? { assigned: settings } : {}) }
}

/** As the device and its user may read it: that it was set and until when, not by whom nor why. A thief would learn that the theft is known. */
export const forDevice = ({ assigned, ...explained }: TagExplanation): TagExplanation =>
  ({ ...explained, ...(assigned === undefined ? {} : { assigned: assigned.map((setting) => ({ ...setting, source: 'administrator', reason: '' })) }) })
