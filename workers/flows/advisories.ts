// Taking a page of advisories: each record read by itself, the good ones stored in one guarded batch, matched at once.
import { sql } from 'drizzle-orm'
import { readAdvisory, type ReadAdvisory } from '../../domain/vulnerability/read-advisory.ts'
import { Fault } from '../../protocol/faults.ts'
import { dateFeeds, feeds, importPage, putFeeds, stateOf, storedAdvisories } from '../../schema/queries/advisories.ts'
import { markEverybody } from '../../schema/queries/packages.ts'
import type { Context } from '../context.ts'
import { matchPages } from './match-vulnerabilities.ts'

const ATTEMPTS = 5
/** Pages that a crash may have left unmatched are caught up with, this many at a time. */
const PAGES_AT_ONCE = 2

export interface Imported {
  /** New or changed, and stored. */
  readonly taken: number
  /** Known as they are, or older than what is known. */
  readonly unchanged: number
  /** Name no package that is matched, and rate no CVE. */
  readonly ignored: number
  readonly refused: { readonly index: number; readonly id: string | null; readonly reason: string }[]
  /** Taken, for more than they may mean. */
  readonly doubted: { readonly index: number; readonly id: string | null; readonly reason: string }[]
}

/**
 * Idempotent: a record that is known with the same date or a later one is left alone.
 * @param whole with this page the source has brought all that it knows
 */
export async function importAdvisories(context: Context, source: string, records: readonly unknown[], whole: boolean): Promise<Imported> {
  const { db } = context
  const readings = records.map(readAdvisory)
  const refused = readings.flatMap((reading, index) => (reading.ok ? [] : [{ index, id: idOf(records[index]), reason: reading.reason }]))
  const doubted = readings.flatMap((reading, index) => (reading.ok && reading.doubt !== null ? [{ index, id: reading.advisory.id, reason: reading.doubt }] : []))
  const read = readings.flatMap((reading) => (reading.ok ? [reading.advisory] : []))
  const latest = [...Map.groupBy(read, ({ id }) => id).values()].map((same) => same.reduce((a, b) => (b.modifiedAt >= a.modifiedAt ? b : a)))
  const ecosystems = [...new Set(latest.flatMap(({ affected }) => affected.map(({ ecosystem }) => ecosystem)))]
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const [[state], stored] = await db.batch([stateOf(db), storedAdvisories(db, latest.map(({ id }) => id))])
    if (state === undefined) throw new Error('the state of the advisories is gone from the database')
    const byId = new Map(stored.map((row) => [row.id, row]))
    // What is of no use is kept out, but what was known under its id must go.
    const useful = latest.filter((each) => byId.has(each.id) || isUseful(each))
    const page = useful.filter(({ id, modifiedAt }) => (byId.get(id)?.modifiedAt ?? -1) < modifiedAt).map(bare)
    const statements = [
      ...ecosystems.length === 0 ? [] : [putFeeds(db, ecosystems, source)],
      ...page.length === 0 ? [] : importPage(db, source, page, page.flatMap(({ id }) => byId.get(id) ?? []), state.revision),
    ]
    const [only] = statements
    const results = only === undefined ? [] : await db.batch(statements as [typeof only])
    if (page.length > 0 && results.at(-1)?.meta.changes === 0) continue
    await matchPages(context, PAGES_AT_ONCE)
    if (whole) await lookedAt(context, source)
    // What is left to be done is done there, page by page: endpoints whose findings changed.
    if (statements.length > 0 || whole) await context.env.RE_EVALUATION.getByName('one').start()
    return { taken: page.length, unchanged: read.length - latest.length + useful.length - page.length, ignored: latest.length - useful.length, refused, doubted }
  }
  throw new Fault('busy', 'Somebody else is importing advisories; send the page again.', { retryAfterSeconds: 1 })
}

/** What the source has brought is dated. Ecosystems that nobody looked at before now count as looked at: everybody's findings are read again. */
async function lookedAt({ db, now }: Context, source: string): Promise<void> {
  const known = await feeds(db)
  const dated = new Set(known.filter(({ asOf }) => asOf > 0).map(({ ecosystem }) => ecosystem))
  const first = known.some((feed) => feed.source === source && !dated.has(feed.ecosystem))
  await db.batch([dateFeeds(db, source, now()), ...(first ? [markEverybody(db, sql`true`)] : [])])
}

const isUseful = ({ affected, rates, severity, withdrawn }: ReadAdvisory): boolean => !withdrawn && (affected.length > 0 || (rates !== null && severity !== 'unrated'))
/** What is withdrawn says nothing of any package, and rates nothing. */
const bare = (advisory: ReadAdvisory): ReadAdvisory => (advisory.withdrawn ? { ...advisory, severity: 'unrated', affected: [] } : advisory)
const idOf = (record: unknown): string | null => {
  const id = typeof record === 'object' && record !== null ? (record as { id?: unknown }).id : undefined
  return typeof id === 'string' ? id.slice(0, 64).toWellFormed() : null
}
