// One access policy in the form that it is evaluated in, with three values. Which policy decides is found in match-policies.ts.
import type { Reason } from '../../protocol/decisions.ts'
import type { Ownership } from '../../protocol/ownership.ts'
import { userCondition, type UserCondition } from '../user/user-condition.ts'
import { tagPresence, type EndpointRecord, type TagPresence } from './endpoint-record.ts'
import type { Origin } from './geo.ts'
import { readPerson, type KeptPeople } from './kept-people.ts'
import type { PolicyFile } from './policy-file.ts'
import { compileSchedule, type Schedule } from './schedule.ts'
import type { Snapshot } from './snapshot.ts'

export interface Policy {
  readonly name: string
  readonly action: 'allow' | 'deny'
  /** `report`: what it would decide is told and changes nothing. */
  readonly mode: 'enforce' | 'report'
  readonly all: readonly string[]
  readonly any: readonly string[]
  readonly none: readonly string[]
  /** Unset: whatever the device is. */
  readonly device: { readonly ownership?: readonly Ownership[]; readonly onFabric?: boolean; readonly online?: boolean }
  /** null: whoever uses it, verified or not. */
  readonly user: UserCondition | null
  /** Unset: from wherever it connects. */
  readonly countries: ReadonlySet<Origin> | null
  /** As written, for comparing; null: always. */
  readonly hours: string | null
  readonly schedule: Schedule | null
  /** ms; from then on it is as if it were not there. */
  readonly until: number | null
}

const asksUser = ({ users, groups, issuer, authenticatedWithinSeconds, verifiedUser }: PolicyFile['policies'][number]): boolean =>
  [users, groups, issuer, authenticatedWithinSeconds, verifiedUser].some((each) => each !== undefined)

/** Makes a policy of a file that the schema has accepted. */
export function compilePolicy(written: PolicyFile['policies'][number]): Policy {
  const { name, action, mode, tags, device, schedule, geo, until } = written
  return {
    name, action, mode, ...tags, device, user: asksUser(written) ? userCondition(written) : null, countries: geo === undefined ? null : new Set<Origin>(geo.countries), hours: schedule === undefined ? null : JSON.stringify(schedule), schedule: schedule === undefined ? null : compileSchedule(schedule),
    until: until === undefined ? null : Date.parse(until),
  }
}

/** A tag that decided, by the name that policies use; no UID when the EMS has never told of it. */
export interface DecidingTag { readonly uid: string | null; readonly name: string; readonly state: TagPresence }

/** What policies are held against: a device, or somebody without one. `people`: what is kept of its user; null where there is no device. */
export interface Subject { readonly record: EndpointRecord | null; readonly people: KeptPeople | null; readonly origin: Origin; readonly snapshot: Snapshot; readonly now: number }

/** Whether a policy's conditions hold, why not, and the earliest instant (ms; Infinity: never) at which that could change without news. */
export interface Reading { readonly value: 'true' | 'false' | 'unknown'; readonly reason: Reason; readonly tags: readonly DecidingTag[]; readonly until: number }

// An instant that has passed changed what it could: it must not call for another decision for ever.
const ahead = (instant: number | null | undefined, now: number): number => (instant === null || instant === undefined || instant <= now ? Infinity : instant)

interface TagReading { readonly tag: DecidingTag; readonly until: number }

/** A tag by its name, whose UIDs may be several: present when one is, else unknown when one is. */
function readTag({ record, snapshot, now }: Subject, name: string): TagReading {
  const uids = snapshot.tagsByName.get(name)
  // A name that the EMS never told may be misspelt: were it absent, `none` would let everybody in.
  if (record === null || uids === undefined) return { tag: { uid: null, name, state: 'unknown' }, until: Infinity }
  let found: TagPresence = 'absent'
  let by = uids[0] ?? null
  for (let at = 0; at < uids.length && found !== 'present'; at++) {
    const uid = uids[at] ?? ''
    const state = tagPresence(record, uid, now)
    if (state === 'absent' || state === found) continue
    found = state
    by = uid
  }
  const until = found === 'present' ? record.tags.get(by ?? '')?.validUntil : found === 'unknown' ? record.unknownUntil : null
  return { tag: { uid: by, name, state: found }, until: ahead(until, now) }
}

const falsehood = (reason: Reason, until = Infinity, tags: readonly DecidingTag[] = []): Reading => ({ value: 'false', reason, tags, until })

function readDevice({ device }: Policy, record: EndpointRecord): Reading | null {
  if (device.online !== undefined && device.online !== record.online) return falsehood('endpoint-offline')
  if (device.onFabric !== undefined && device.onFabric !== record.onFabric) return falsehood('fabric-mismatch')
  if (device.ownership === undefined) return null
  if (record.ownership === undefined) return { value: 'unknown', reason: 'ownership-unknown', tags: [], until: Infinity }
  return device.ownership.includes(record.ownership) ? null : falsehood('ownership-mismatch')
}

function readOrigin({ countries }: Policy, origin: Origin): Reading | null {
  if (countries === null || countries.has(origin)) return null
  return origin === 'unknown' ? { value: 'unknown', reason: 'country-unknown', tags: [], until: Infinity } : falsehood('country-mismatch')
}

/** Evaluates the conditions of one policy. What is false by one condition is false, whatever is unknown of another. */
export function readPolicy(policy: Policy, subject: Subject): Reading {
  const { record, origin, now } = subject
  const { all, any, none } = policy
  if (policy.until !== null && now >= policy.until) return falsehood('deadline-passed')
  // Somebody without a device has no tags at all: neither one that is demanded nor the certainty that one is lacking.
  if (record === null && (all.length + any.length + none.length > 0 || Object.keys(policy.device).length > 0 || policy.user !== null)) return falsehood('no-certificate')
  const read: TagReading[] = []
  for (const name of none) {
    const each = readTag(subject, name)
    if (each.tag.state === 'present') return falsehood('denied-by-tag', each.until, [each.tag])
    read.push(each)
  }
  for (const name of all) {
    const each = readTag(subject, name)
    if (each.tag.state === 'absent') return falsehood('tag-missing', each.until, [each.tag])
    read.push(each)
  }
  if (any.length > 0) {
    const alternatives = any.map((name) => readTag(subject, name))
    const chosen = alternatives.find(({ tag }) => tag.state === 'present')
    const deciding = chosen === undefined ? alternatives.filter(({ tag }) => tag.state === 'unknown') : [chosen]
    if (deciding.length === 0) return falsehood('tag-missing', Infinity, alternatives.map(({ tag }) => tag))
    read.push(...deciding)
  }
  const eligible = record === null ? null : readDevice(policy, record)
  if (eligible?.value === 'false') return eligible
  const located = readOrigin(policy, origin)
  if (located?.value === 'false') return located
  const person = record === null ? null : readPerson(policy, record.user, subject.people, now)
  if (person?.value === 'false') return falsehood('user-mismatch', person.until)
  const standing = policy.schedule?.(now)
  if (standing?.stands === false) return falsehood('outside-schedule', standing.until)
  let until = Math.min(standing?.until ?? Infinity, policy.until ?? Infinity, person?.until ?? Infinity)
  const [known, unknown]: [DecidingTag[], DecidingTag[]] = [[], []]
  for (const { tag, until: instant } of read) {
    until = Math.min(until, instant)
    if (tag.state === 'unknown') unknown.push(tag)
    else known.push(tag)
  }
  if (unknown.length > 0) return { value: 'unknown', reason: 'tag-unknown', tags: unknown, until }
  const open = eligible ?? located
  if (open !== null) return { value: 'unknown', reason: open.reason, tags: [], until }
  if (person?.value === 'unknown') return { value: 'unknown', reason: 'user-unverified', tags: [], until }
  return { value: 'true', reason: 'allowed', tags: known, until }
}
