// What imported advisories mean for endpoints: whoever has a package whose matches changed is worked out anew, one guarded commit each; and packages that nobody has are removed.
import { eq } from 'drizzle-orm'
import { endpoints } from '../../schema/endpoint.ts'
import { ENDPOINTS_IN_WORD } from '../../schema/package.ts'
import { oldestFeed, renewMatches, scansMayAge, stateOf } from '../../schema/queries/advisories.ts'
import { dropTags, insertSection, putTags } from '../../schema/queries/guarded.ts'
import { gatewaysConcerned } from '../../schema/queries/interest.ts'
import { clearStale, ecosystemsAmong, endpointsByNumbers, newestPackage, nextStale, noteOrphansBetween, orphansBefore, removePackages } from '../../schema/queries/packages.ts'
import { logEvent, type Context } from '../context.ts'
import { commitEndpoint } from './commit-endpoint.ts'
import { readSections, selectSections } from './facts.ts'
import { bitsOf } from './holders.ts'
import { MATCHES, packMatches, readIds, readMatches, SOFTWARE } from './inventory.ts'
import { matchPages } from './match-vulnerabilities.ts'
import { rulesOf } from './rules.ts'
import { evaluatedThrough, rulesRevisionOf, selectStates } from './states.ts'
import { sysinfoRecord } from './sysinfo-record.ts'
import { matchesFor } from './vulnerabilities.ts'
import { workOut } from './work-out.ts'

/** Endpoints in one step: each takes some thirteen queries of the forty that an invocation may make. */
const ENDPOINTS_AT_ONCE = 2
const ATTEMPTS = 3

/** What could not be renewed is tried again this much later; the others go on meanwhile. */
const AGAIN_MS = 60_000

/** One step; idempotent, and what a crash leaves undone is done by the next. @returns when to go on (ms); null: all is done */
export async function renewInventories(context: Context): Promise<number | null> {
  const { db, now } = context
  if (!await matchPages(context, 1)) return now()
  const [dice] = crypto.getRandomValues(new Uint32Array(1))
  // Begun anywhere: one endpoint that can't be renewed must not stand before all others.
  const [stale] = await nextStale(db, (dice ?? 0) % 4_096)
  if (stale === undefined) {
    await renewDates(context)
    return null
  }
  const bits = bitsOf(stale.bits)
  const numbers = Array.from({ length: Math.min(bits.length, ENDPOINTS_AT_ONCE) }, (_, index) => stale.word * ENDPOINTS_IN_WORD + (bits[((dice ?? 0) + index) % bits.length] ?? 0))
  const failed = new Set<number>()
  for (const { number, uid } of await endpointsByNumbers(db, numbers)) {
    try {
      await renewOne(context, uid)
    } catch (cause) {
      logEvent('endpoint-not-renewed', { uid, cause: cause instanceof Error ? cause.message : String(cause) })
      failed.add(number)
    }
  }
  const done = numbers.filter((number) => !failed.has(number))
  if (done.length > 0) await clearStale(db, stale.word, done.reduce((sum, number) => sum + 2 ** (number % ENDPOINTS_IN_WORD), 0), stale.mark)
  return now() + (done.length > 0 ? 0 : AGAIN_MS)
}

async function renewOne(context: Context, uid: string): Promise<void> {
  const { db, now } = context
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const [[endpoint], rows, concerned, sections] = await db.batch([db.select().from(endpoints).where(eq(endpoints.uid, uid)), selectStates(context), gatewaysConcerned(db, uid), selectSections(db, uid)])
    const software = sections.find(({ section }) => section === SOFTWARE)
    const ids = software === undefined ? null : readIds(software)
    if (endpoint?.registered !== true || ids === null) return
    const before = readMatches(sections)
    const ecosystems = before === null || before === 'damaged' ? (await ecosystemsAmong(db, ids)).map(({ ecosystem }) => ecosystem) : [...before.covered, ...before.uncovered]
    const { matches } = await matchesFor(context, ids, ecosystems)
    const kept = await packMatches(matches)
    if (sections.find(({ section }) => section === MATCHES)?.hash === kept.hash && before !== 'damaged') return
    const row = { section: MATCHES, at: matches.at, ...kept }
    const held = await rulesOf(context, rows)
    const { facts } = readSections([...sections.filter(({ section }) => section !== MATCHES), row])
    const { put, gone, set, evaluation } = workOut({ endpoint, held, through: Math.max(endpoint.rulesRevision, evaluatedThrough(rows)), facts, changed: ['vulnerabilities'], now: now() })
    const committed = await commitEndpoint(context, {
      endpoint, rulesRevision: rulesRevisionOf(rows), set, concerned, sysinfo: sysinfoRecord({ ...endpoint, ...set }, facts),
      tables: ['sysinfo', 'vuln', ...(put.length + gone.length > 0 ? ['uid_tags' as const, 'tags' as const] : [])],
      also: (guard) => [insertSection(db, guard, row), ...(put.length === 0 ? [] : [putTags(db, guard, put, now())]), ...(gone.length === 0 ? [] : [dropTags(db, guard, gone)])],
    })
    if (!committed.ok) continue
    if (evaluation.nextDue !== null) context.waitUntil(context.env.RE_EVALUATION.getByName('one').due(evaluation.nextDue))
    return
  }
  throw new Error(`the endpoint ${uid} is being changed by others`)
}

/** Where rules ask how old a scan is, matches are made as young as the advisories are. */
async function renewDates({ db, now }: Context): Promise<void> {
  const [[state], [oldest], [rules]] = [await stateOf(db), await oldestFeed(db), await scansMayAge(db)]
  if (state === undefined || oldest?.asOf == null || oldest.asOf <= state.renewedAt || rules?.asked !== 1) return
  await db.batch(renewMatches(db, oldest.asOf, now()))
}

const HOUR = 3_600_000
/** Packages looked at in one run; of those noted, removed at once and in one run. */
const LOOKED_AT = 2_000
const REMOVED_AT_ONCE = 2_000
const REMOVALS = 5
/** Removes packages that nobody has had for an hour. What broken-off reports left behind is looked for in parts, another part in each run. */
export async function tidyPackages({ db }: Pick<Context, 'db'>, now: number): Promise<void> {
  const [newest] = await newestPackage(db)
  const parts = Math.ceil(((newest?.id ?? 0) + 1) / LOOKED_AT)
  const from = (Math.floor(now / 600_000) % parts) * LOOKED_AT
  await noteOrphansBetween(db, from, from + LOOKED_AT - 1, now)
  for (let removal = 0; removal < REMOVALS; removal++) {
    const gone = (await orphansBefore(db, now - HOUR, REMOVED_AT_ONCE)).map(({ id }) => id)
    if (gone.length > 0) await db.batch(removePackages(db, gone))
    if (gone.length < REMOVED_AT_ONCE) return
  }
}
