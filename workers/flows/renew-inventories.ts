// What imported advisories mean for endpoints: whoever has a package whose matches changed is worked out anew, several at a time, each committed whole or not at all.
import { entryOf } from '../../durable-objects/log-entry.ts'
import { sectionsOf, evaluatedOf } from '../../schema/queries/behind.ts'
import { advanceMany, concernedByAny, dropManyTags, insertLogs, insertManySections, newestLogs, putManyTags, type ComputedEndpoint } from '../../schema/queries/guarded-many.ts'
import { TAIL_ROWS } from '../../schema/queries/log-tail.ts'
import { ENDPOINTS_IN_WORD } from '../../schema/package.ts'
import { oldestFeed, renewMatches, scansMayAge, stateOf } from '../../schema/queries/advisories.ts'
import { clearStale, ecosystemsAmong, endpointsByNumbers, nextStale } from '../../schema/queries/packages.ts'
import { logEvent, type Context } from '../context.ts'
import { newMark, noteFlapping } from './commit-endpoint.ts'
import { bytesOf, MAX_BATCH_BYTES } from './commit-many.ts'
import { readSections } from './facts.ts'
import { bitsOf } from './holders.ts'
import { MATCHES, packMatches, readIds, readMatches, SOFTWARE } from './inventory.ts'
import { matchPages } from './match-vulnerabilities.ts'
import { pokeGateways } from './poke.ts'
import { rulesOf } from './rules.ts'
import { evaluatedThrough, selectStates } from './states.ts'
import { matchesFor } from './vulnerabilities.ts'
import { workOut } from './work-out.ts'

/** Endpoints whose ecosystems are not known: each takes a query of its own, beside some fifteen for all, of the forty that an invocation may make. */
const UNMATCHED_AT_ONCE = 16
/** What could not be renewed is tried again this much later; the others go on meanwhile. */
const AGAIN_MS = 60_000

/** One step; idempotent, and what a crash leaves undone is done by the next. It never throws: rules are worked out beside it. @returns when to go on (ms); null: all is done */
export async function renewInventories(context: Context): Promise<number | null> {
  try {
    return await step(context)
  } catch (cause) {
    logEvent('inventories-not-renewed', { cause: cause instanceof Error ? cause.message : String(cause) })
    return context.now() + AGAIN_MS
  }
}

async function step(context: Context): Promise<number | null> {
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
  const numbers = bits.map((_, index) => stale.word * ENDPOINTS_IN_WORD + (bits[((dice ?? 0) + index) % bits.length] ?? 0))
  const owners = await endpointsByNumbers(db, numbers)
  const failed = await renew(context, owners.map(({ uid }) => uid)).catch(async (cause: unknown) => {
    // One may be to blame: the first is tried alone, the others wait for their turn.
    const [first, ...others] = owners.map(({ uid }) => uid)
    if (first !== undefined && others.length > 0) return new Set([...await renew(context, [first]).catch(() => new Set([first])), ...others])
    logEvent('endpoints-not-renewed', { uid: first ?? null, cause: cause instanceof Error ? cause.message : String(cause) })
    return new Set(owners.map(({ uid }) => uid))
  })
  const done = numbers.filter((number) => !owners.some((owner) => owner.number === number && failed.has(owner.uid)))
  if (done.length > 0) await clearStale(db, stale.word, done.reduce((sum, number) => sum + 2 ** (number % ENDPOINTS_IN_WORD), 0), stale.mark)
  return now() + (done.length > 0 ? 0 : AGAIN_MS)
}

/** Works some endpoints out anew and commits those whose matches are not what is stored. @returns those that somebody else changed meanwhile */
async function renew(context: Context, uids: readonly string[]): Promise<ReadonlySet<string>> {
  const { db, now } = context
  const [rows, states, stored] = await db.batch([evaluatedOf(db, uids), selectStates(context), sectionsOf(db, uids, null)])
  const byUid = Map.groupBy(stored, ({ uid }) => uid)
  const later = new Set<string>()
  let unmatched = 0
  const lists = rows.flatMap((row) => {
    const sections = byUid.get(row.uid) ?? []
    const software = sections.find(({ section }) => section === SOFTWARE)
    const ids = software === undefined ? null : readIds(software)
    if (ids === null) return []
    const before = readMatches(sections)
    if ((before === null || before === 'damaged') && ++unmatched > UNMATCHED_AT_ONCE) {
      later.add(row.uid)
      return []
    }
    return [{ row, sections, ids, before }]
  })
  const { matches } = await matchesFor(context, await Promise.all(lists.map(async ({ ids, before }) => (
    { ids, ecosystems: before === null || before === 'damaged' ? (await ecosystemsAmong(db, ids)).map(({ ecosystem }) => ecosystem) : [...before.covered, ...before.uncovered] }))))
  const held = await rulesOf(context, states)
  const through = evaluatedThrough(states)
  const renewed: Renewed[] = []
  let bytes = 0
  for (const [index, { row, sections, before }] of lists.entries()) {
    const dated = matches[index]
    if (dated === undefined) continue
    const kept = { section: MATCHES, at: dated.at, ...await packMatches(dated) }
    if (before !== 'damaged' && sections.find(({ section }) => section === MATCHES)?.hash === kept.hash) continue
    const { facts } = readSections([...sections.filter(({ section }) => section !== MATCHES), kept])
    const { put, gone, set, evaluation } = workOut({ endpoint: row, held, through: Math.max(row.rulesRevision, through), facts, changed: ['vulnerabilities'], now: now() })
    const tables = ['sysinfo', 'vuln', ...(put.length + gone.length > 0 ? ['uid_tags', 'tags'] : [])].join(',')
    const computed: ComputedEndpoint = { uid: row.uid, version: row.version, set, put, gone, damaged: [], log: { mark: newMark(), tables, entry: JSON.stringify(entryOf({ ...row, tags: set.tags })) } }
    // What does not fit any more is for the next step.
    if (renewed.length > 0 && (bytes += bytesOf(computed)) > MAX_BATCH_BYTES) later.add(row.uid)
    else renewed.push({ kept, nextDue: evaluation.nextDue, computed, row })
  }
  return renewed.length === 0 ? later : new Set([...later, ...await commit(context, renewed, held.rules.revision)])
}

interface Renewed { readonly computed: ComputedEndpoint; readonly kept: { readonly section: string; readonly hash: string; readonly at: number; readonly body: Uint8Array }; readonly nextDue: number | null; readonly row: Parameters<typeof noteFlapping>[0] }
/** One batch, then every gateway concerned is told once. @returns those that are to be looked at again: all of them, when somebody else was first with one */
async function commit(context: Context, renewed: readonly Renewed[], revision: number): Promise<ReadonlySet<string>> {
  const { db, now } = context
  const computed = renewed.map((each) => each.computed)
  const uids = computed.map(({ uid }) => uid)
  const head = [insertLogs(db, computed, revision, now()), putManyTags(db, computed, revision, now()), dropManyTags(db, computed, revision), newestLogs(db, computed.length + TAIL_ROWS), concernedByAny(db, uids)] as const
  const sections = insertManySections(db, renewed.map(({ computed: { uid, version }, kept }) => ({ uid, version, ...kept })), revision)
  const results = await db.batch([...head, ...sections, advanceMany(db, computed, revision)] as const as unknown as typeof head)
  const [, , , tail, concerned] = results
  const advanced = results.at(-1) as unknown as D1Result
  const soonest = renewed.reduce<number | null>((least, { nextDue }) => (nextDue === null ? least : Math.min(least ?? nextDue, nextDue)), null)
  if (soonest !== null) context.waitUntil(context.env.RE_EVALUATION.getByName('one').due(soonest))
  try {
    await pokeGateways(context, concerned, tail)
  } catch (cause) {
    // The log stands; whoever has not been told finds it there.
    logEvent('gateways-not-told', { cause: cause instanceof Error ? cause.message : String(cause) })
  }
  if (advanced.meta.changes < computed.length) return new Set(uids)
  for (const { row, computed: { set } } of renewed) noteFlapping(row, set)
  return new Set()
}

/** Where rules ask how old a scan is, matches are made as young as the advisories are. */
async function renewDates({ db, now }: Context): Promise<void> {
  const [[state], [oldest], [rules]] = [await stateOf(db), await oldestFeed(db), await scansMayAge(db)]
  if (state === undefined || oldest?.asOf == null || oldest.asOf <= state.renewedAt || rules?.asked !== 1) return
  await db.batch(renewMatches(db, oldest.asOf, now()))
}
