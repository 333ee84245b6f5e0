// An endpoint's software: normalised, each package by its id in the fleet's list, and what the advisories say of them. It computes; the caller's guarded commit writes.
import type { BatchItem } from 'drizzle-orm/batch'
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import type { DatedMatches, Matches } from '../../domain/vulnerability/combine.ts'
import { ecosystemOf, familyOf } from '../../domain/vulnerability/ecosystem.ts'
import { packIds, unpackIds } from '../../domain/vulnerability/id-list.ts'
import { keptOf, LEFT_OUT } from '../../domain/vulnerability/kept.ts'
import type { FleetPackage } from '../../domain/vulnerability/match.ts'
import { sha256Hex } from '../../identity/keys.ts'
import { utf8 } from '../../identity/encoding.ts'
import type { Sections } from '../../protocol/facts.ts'
import { Fault } from '../../protocol/faults.ts'
import { insertSection, type Guard } from '../../schema/queries/guarded.ts'
import { addHolder, countIntroduced, endpointNumber, keepPackages, markIfMatchedSince, noteOrphans, numberEndpoint, packageIds, packagesByIds, removeHolder } from '../../schema/queries/packages.ts'
import { logEvent, type Context } from '../context.ts'
import { introducePackages, ROWS, type Room } from './match-vulnerabilities.ts'
import { matchesFor } from './vulnerabilities.ts'

/** The row of an endpoint's sections that holds what the EMS matched; `software` holds the ids of packages. */
export const MATCHES = 'matches'
export const SOFTWARE = 'software'
interface Stored { readonly section: string; readonly hash: string; readonly at: number; readonly body: Uint8Array }
type Software = Sections['software']
type Os = Pick<Sections['os'], 'name' | 'version'>

/** Queries for packages that the fleet has not had before, of the forty that an invocation may make; what is left over is for the report's next try. */
const INTRODUCING_QUERIES = 12
const ATTEMPTS = 3
/** What one endpoint may make the fleet's tables grow by in a day: several times what the first laptop of a fleet brings. */
const ROOM_ROWS = 300_000
const ROOM_MS = 86_400_000

export interface Inventory {
  readonly matches: DatedMatches
  /** What rules see of it is not what is stored. */
  readonly differs: boolean
  statements(guard: Guard): BatchItem<'sqlite'>[]
}

/** Packages as advisories know them; one that is reported twice counts once. */
export function normalise({ packages }: Software, os: Os | null): FleetPackage[] {
  const once = new Map<string, FleetPackage>()
  for (const { ecosystem: reported, name: given, version, source } of packages) {
    const ecosystem = ecosystemOf(reported, os)
    const family = familyOf(ecosystem)
    const name = family?.normalise(given) ?? given
    const built = family === null || family.bySource ? source : undefined
    const each: FleetPackage = { ecosystem, name, version, subject: built?.name ?? name, subjectVersion: built === undefined || built.version === '' ? version : built.version }
    once.set(JSON.stringify(each), each)
  }
  return [...once.values()]
}

/**
 * Takes a software list, or the stored one once more for another system release.
 * @param software null: the one that is stored
 * @returns null when nothing is stored
 */
export async function takeInventory(context: Context, uid: string, given: { software: Software | null; hash: string | null; os: Os | null; stored: readonly Stored[] }): Promise<Inventory | null> {
  const { db, now } = context
  const row = given.stored.find(({ section }) => section === SOFTWARE)
  const before = row === undefined ? null : readIds(row)
  const software = given.software ?? (before === null ? null : await softwareOf(context, before))
  const hash = given.hash ?? row?.hash
  if (software === null || hash === undefined) return null
  const { list, leftOut } = keptOf(normalise(software, given.os))
  const { ids, all, number } = await resolve(context, uid, list)
  const known = readMatches(given.stored)
  // A list that is stored does not hold what was left out when it came.
  const partial = leftOut || !all || (given.software === null && known !== 'damaged' && known?.uncovered.includes(LEFT_OUT) === true)
  if (partial) logEvent('packages-left-out', { uid, kept: ids.length, reported: software.packages.length })
  const { matches: [matches], matchedThrough } = await matchesFor(context, [{ ids, ecosystems: [...new Set(list.map(({ ecosystem }) => ecosystem)), ...partial ? [LEFT_OUT] : []] }])
  if (matches === undefined) throw new Error('a list was not matched')
  const kept = await packMatches(matches)
  const [held, holds] = [new Set(before), new Set(ids)]
  const [come, gone] = [ids.filter((id) => !held.has(id)), (before ?? []).filter((id) => !holds.has(id))]
  const differs = given.stored.find(({ section }) => section === MATCHES)?.hash !== kept.hash || known === 'damaged'
  return {
    matches, differs,
    statements: (guard) => [
      insertSection(db, guard, { section: SOFTWARE, hash, at: now(), body: packInventory(ids) }),
      ...(differs ? [insertSection(db, guard, { section: MATCHES, at: matches.at, ...kept })] : []),
      ...(come.length === 0 ? [] : [addHolder(db, guard, number, come)]), ...(gone.length === 0 ? [] : [removeHolder(db, guard, number, gone), noteOrphans(db, guard, gone, now())]),
      markIfMatchedSince(db, guard, number, matchedThrough),
    ],
  }
}

interface Resolved { readonly ids: number[]; /** None is left out. */ readonly all: boolean; /** The endpoint's. */ readonly number: number }
/** Ids of the packages; those that the fleet has not had are matched and stored first, as far as there is room for what this endpoint brings. */
async function resolve(context: Context, uid: string, list: readonly FleetPackage[]): Promise<Resolved> {
  const { db } = context
  let budget = INTRODUCING_QUERIES
  let room: (Room & { readonly number: number }) | null = null
  const resolved = async (ids: number[], all: boolean): Promise<Resolved> => {
    // Numbered already, it need not be asked again: an invocation has forty queries.
    if (room === null) return { ids, all, number: numberOf((await db.batch([keepPackages(db, ids), numberEndpoint(db, uid), endpointNumber(db, uid)]))[2]).number }
    await keepPackages(db, ids)
    return { ids, all, number: room.number }
  }
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const ids = await packageIds(db, list)
    const missing = list.filter((_, index) => ids[index] === null)
    if (missing.length === 0) return await resolved(ids as number[], true)
    if (budget <= 0) break
    room ??= await roomOf(context, uid)
    const done = await introducePackages(context, missing, budget, room)
    if (done.rows === null) return await resolved((await packageIds(db, list)).filter((id) => id !== null), false)
    budget -= done.queries
    room = { ...room, rows: room.rows - done.rows }
  }
  const ids = await packageIds(db, list)
  if (ids.every((id) => id !== null)) return await resolved(ids, true)
  // What has been matched so far stays; the next try goes on from there.
  throw new Fault('busy', 'The software list holds many packages that this EMS has not seen before; they are being matched. Send the report again.', { retryAfterSeconds: 1 })
}

async function roomOf({ db, now }: Context, uid: string): Promise<Room & { readonly number: number }> {
  const [, rows] = await db.batch([numberEndpoint(db, uid), endpointNumber(db, uid)])
  const { number, introduced, introducedSince } = numberOf(rows)
  return { number, rows: ROOM_ROWS - (introducedSince > now() - ROOM_MS ? introduced : 0), count: (rows) => countIntroduced(db, number, rows, now(), ROOM_MS) }
}
function numberOf<T>([numbered]: readonly T[]): T {
  if (numbered === undefined) throw new Error('an endpoint has no number')
  return numbered
}

const packInventory = (ids: readonly number[]): Uint8Array => deflateRawSync(packIds(ids))
/** Ids of an endpoint's packages; null: the row is damaged. */
export function readIds({ body }: Pick<Stored, 'body'>): number[] | null {
  try {
    return unpackIds(inflateRawSync(Uint8Array.from(body)))
  } catch {
    return null // the caller does without: the list is sent anew
  }
}

/** A list of ids as it was reported, but for normalised names. */
export async function softwareOf({ db }: Pick<Context, 'db'>, ids: readonly number[]): Promise<Software> {
  const packages: Software['packages'] = []
  for (let from = 0; from < ids.length; from += ROWS) {
    for (const { ecosystem, name, version, subject, subjectVersion } of await packagesByIds(db, ids.slice(from, from + ROWS))) {
      const own = subject === name && subjectVersion === version
      packages.push({ ecosystem: reportedAs(ecosystem), name, version, ...(own ? {} : { source: { name: subject, version: subjectVersion } }) })
    }
  }
  return { packages }
}
type Reported = Software['packages'][number]['ecosystem']
const reportedAs = (ecosystem: string): Reported => {
  const order = familyOf(ecosystem)?.order.name
  return order === undefined ? ecosystem as Reported : order === 'pep440' ? 'pypi' : order === 'semver' ? 'npm' : order as Reported
}

/** The hash leaves out the date, so that a match which finds the same writes nothing. */
export async function packMatches({ found, covered, uncovered }: Matches): Promise<{ hash: string; body: Uint8Array }> {
  // In one order, made here.
  const text = JSON.stringify({ found, covered, uncovered })
  return { hash: await sha256Hex(utf8(text)), body: deflateRawSync(text) }
}
/** `damaged`: nobody knows what was matched; null: nothing was. */
export function readMatches(rows: readonly Stored[]): DatedMatches | 'damaged' | null {
  const row = rows.find(({ section }) => section === MATCHES)
  if (row === undefined) return null
  try {
    return { ...JSON.parse(new TextDecoder().decode(inflateRawSync(Uint8Array.from(row.body)))) as Matches, at: row.at }
  } catch {
    return 'damaged'
  }
}

/** What a report changes of the inventory; null: nothing, and it costs no trip. Another release of the system makes other packages of the same list. */
export async function inventoryAfter(context: Context, uid: string, given: { stored: readonly Stored[]; software: { readonly value: Software; readonly hash: string } | null; osBefore: Os | null; os: Os | null }): Promise<Inventory | null> {
  const { stored, software, os } = given
  const moved = (['deb', 'rpm'] as const).some((reported) => ecosystemOf(reported, given.osBefore) !== ecosystemOf(reported, os))
  if (software === null && !moved) return null
  return await takeInventory(context, uid, { software: software?.value ?? null, hash: software?.hash ?? null, os, stored })
}
