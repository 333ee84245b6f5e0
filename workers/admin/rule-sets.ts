// Tagging rule sets and the tags they give. A change of what one decides bumps the rules' revision in the same batch, and endpoints that it concerns are evaluated anew.
import { and, asc, eq, gt, sql } from 'drizzle-orm'
import { questionsOf } from '../../domain/tagging/agent-rules.ts'
import type { RuleVerdict } from '../../domain/tagging/transition.ts'
import { checkRuleSet, meaningOf, standsUntil, systemsOf, type PlacedError } from '../../domain/tagging/rule-set.ts'
import { checkTagsRead, leftReading, readsTags } from '../../domain/tagging/tags-read.ts'
import { Fault } from '../../protocol/faults.ts'
import { createRuleSet, deleteRuleSet, dryRunRuleSet, listRuleSets, listTags, readRuleSet as readRuleSetOperation, reEvaluation, replaceRuleSet, ruleSetEndpoints } from '../../protocol/operations/admin.ts'
import { tagTypes, type RuleSet, type RuleSetInput, type Tag } from '../../protocol/rules.ts'
import { countBehind } from '../../schema/queries/behind.ts'
import { nobodyLeftReading } from '../../schema/queries/left-reading.ts'
import { dropUnusedTags } from '../../schema/queries/unused-tags.ts'
import { ruleChanges, ruleSets, tags } from '../../schema/rules.ts'
import { holdersOf, lookedTo, standingOf } from '../../schema/queries/rule-set-endpoints.ts'
import type { Context } from '../context.ts'
import { dryRun } from '../flows/dry-run.ts'
import { tagsChanged } from '../flows/announce.ts'
import { beyondLimits } from '../flows/limit-rule-sets.ts'
import { announceRules } from '../flows/announce-rules.ts'
import { readRuleSet } from '../flows/rules.ts'
import { bumpState, evaluatedThrough, rulesRevisionOf, selectStates, states, stillAt } from '../flows/states.ts'
import { handle, type Route } from '../http/mount.ts'
import { pageOf } from './paging.ts'

const ZERO_TRUST = 1
const ATTEMPTS = 5
/** Endpoints among which a page of a rule set's own is looked for. */
const LOOKED_AT = 2_000
type Row = typeof ruleSets.$inferSelect

async function save(context: Context, id: string, input: RuleSetInput, create: boolean): Promise<RuleSet> {
  const { db } = context
  await refuseSetTag(context, input.tag)
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const { errors, revision } = await placesIn(context, input, create ? null : id)
    if (errors.length > 0) throw new Fault('invalid', 'The rule set can not be taken.', { errors })
    const row = create ? null : await findOwn(context, id)
    const before = row === null ? null : readRuleSet(row)
    if (before !== null && before.tag !== input.tag) await refuseLeftReading(context, before)
    const now = context.now()
    if (row !== null && before?.tag === input.tag && meaningOf(before) === meaningOf({ id, tagUid: before.tagUid, ...input })) {
      // A name, a message, a comment: nothing is decided otherwise, so nothing is evaluated and nobody need hear of it.
      const [saved] = await db.batch([write(context, id, row, input, now, null), bumpState(context, states.wording, now)])
      if (saved.meta.changes > 0) return { id, tagUid: before.tagUid, ...input }
      continue
    }
    const asks = questionsOf(before) !== questionsOf({ id, tagUid: '', ...input })
    const [, saved, , , , , [tag]] = await db.batch([
      db.insert(tags).values({ uid: crypto.randomUUID(), name: input.tag, type: ZERO_TRUST, createdAt: now }).onConflictDoNothing(),
      write(context, id, row, input, now, revision), dropUnusedTags(db), bumpState(context, states.rules, now), noteChange(context, id, systemsOf(input), before?.tag === input.tag ? standsUntil(before, { id, tagUid: before.tagUid, ...input }, now) : null), tagsChanged(context),
      db.select().from(tags).where(eq(tags.name, input.tag)), ...(asks ? [bumpState(context, states.questions, now)] : []),
    ])
    if (saved.meta.changes === 0 || tag === undefined) continue
    await announceRules(context, asks)
    return { id, tagUid: tag.uid, ...input }
  }
  throw new Fault('busy', 'The rule set is being changed by others; try again.', { retryAfterSeconds: 1 })
}

/**
 * An edit is guarded by what it was made of: somebody else may have changed the rule set since. The tag is there, for the same batch made it.
 * @param revision of the rules beside which it was found to close no circle of tags: another edit at the same time may close it with this one; null: it reads no tag
 */
function write({ db }: Context, id: string, before: Row | null, input: RuleSetInput, now: number, revision: number | null) {
  const still = stillAt(revision)
  const [body, tagUid] = [JSON.stringify(input), sql`(SELECT uid FROM tags WHERE name = ${input.tag} AND type IN (1, 2))`]
  return before === null ? db.insert(ruleSets).select(sql`SELECT ${id}, ${tagUid}, ${body}, ${now}, NULL WHERE ${still}`) : db.update(ruleSets).set({ tagUid, body, updatedAt: now }).where(and(eq(ruleSets.id, id), eq(ruleSets.body, before.body), still, nobodyLeftBy(before, input)))
}
const nobodyLeftBy = (before: Row, { tag }: RuleSetInput) => {
  const given = readRuleSet(before).tag
  return given === tag ? undefined : nobodyLeftReading(given, before.id)
}

/** Which rule set the revision that this batch has just made is about. */
const noteChange = ({ db }: Context, id: string, systems: readonly string[], stands: number | null, when = sql`true`) =>
  db.insert(ruleChanges).select(sql`SELECT revision, ${id}, ${systems.join(',')}, ${stands} FROM rules_state WHERE id = ${states.rules} AND ${when}`)

async function find({ db }: Context, id: string): Promise<Row> {
  const [row] = await db.select().from(ruleSets).where(eq(ruleSets.id, id))
  if (row === undefined) throw new Fault('not_found', 'There is no such rule set.')
  return row
}

/** One that came with a pack is the pack's: changed by hand it would be changed back by the next import. */
async function findOwn(context: Context, id: string): Promise<Row> {
  const row = await find(context, id)
  if (row.packId !== null) throw new Fault('conflict', 'This rule set came with a pack: import a newer version of that, or remove it.')
  return row
}

/** A tag is given by rules or set, never both: each would take away what the other means. */
async function refuseSetTag({ db }: Context, name: string): Promise<void> {
  const [tag] = await db.select({ type: tags.type }).from(tags).where(eq(tags.name, name))
  if (tag !== undefined && tag.type > 2) throw new Fault('invalid', 'The rule set can not be taken.', { errors: [{ pointer: '/tag', detail: `"${name}" is a ${tagTypes[tag.type as keyof typeof tagTypes]} tag, which is set and not given by rules` }] })
}

/** Everything that keeps it from being taken, each with its place; and, of one that reads tags, the revision of the rules that it was looked at with. */
async function placesIn(context: Context, input: RuleSetInput, id: string | null): Promise<{ readonly errors: PlacedError[]; readonly revision: number | null }> {
  const errors = checkRuleSet(input)
  if (errors.length === 0) errors.push(...await beyondLimits(context, [{ input, pointer: '' }], id === null ? [] : [id]))
  if (!readsTags(input)) return { errors, revision: null }
  const [stored, names, rows] = await context.db.batch([context.db.select().from(ruleSets), context.db.select({ name: tags.name }).from(tags), selectStates(context)])
  return { errors: [...errors, ...checkTagsRead({ input, id, ruleSets: stored.map(readRuleSet), names: new Set(names.map(({ name }) => name)) })], revision: rulesRevisionOf(rows) }
}

/** Whoever reads a tag that nobody gives any more could only be unknown. Says who it is; the write makes sure. */
async function refuseLeftReading({ db }: Context, { id, tag }: RuleSet): Promise<void> {
  const [first, ...others] = leftReading(tag, id, (await db.select().from(ruleSets)).map(readRuleSet))
  if (first !== undefined) throw new Fault('conflict', `The rule set "${first.name}"${others.length === 0 ? '' : ` and ${others.length} more`} reads the tag "${tag}", which nothing else gives: change that first.`)
}

async function remove(context: Context, id: string): Promise<void> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const before = readRuleSet(await findOwn(context, id))
    await refuseLeftReading(context, before)
    const [now, asked, { db }] = [context.now(), questionsOf(before) !== questionsOf(null), context]
    const gone = sql`NOT EXISTS (SELECT 1 FROM rule_sets WHERE id = ${id})`
    const [removed] = await db.batch([
      db.delete(ruleSets).where(and(eq(ruleSets.id, id), nobodyLeftReading(before.tag, id))), dropUnusedTags(db), bumpState(context, states.rules, now, gone), noteChange(context, id, [], null, gone), tagsChanged(context),
      ...(asked ? [bumpState(context, states.questions, now, gone)] : []),
    ])
    if (removed.meta.changes === 0) continue
    await announceRules(context, asked)
    return
  }
  throw new Fault('busy', 'The rule sets are being changed by others; try again.', { retryAfterSeconds: 1 })
}

export const ruleSetRoutes: Route[] = [
  handle(listRuleSets, {
    async run({ db }, { query: { after, limit } }) {
      const rows = await db.select().from(ruleSets).where(after === undefined ? undefined : gt(ruleSets.id, after)).orderBy(asc(ruleSets.id)).limit(limit + 1)
      return pageOf(rows, limit, ({ id }) => id, readRuleSet)
    },
  }),
  handle(readRuleSetOperation, {
    async run(context, { params }) {
      const ruleSet = readRuleSet(await find(context, params.id))
      const [standing] = await standingOf(context.db, params.id)
      return { ...ruleSet, standing: standing ?? { holds: 0, unknown: 0, owing: 0, standing: 0 } }
    },
  }),
  handle(ruleSetEndpoints, {
    async run(context, { params, query: { after = '', limit } }) {
      await find(context, params.id)
      const { db } = context
      const [found, [looked]] = [await holdersOf(db, params.id, after, LOOKED_AT, limit + 1), await lookedTo(db, after, LOOKED_AT)]
      const { items, next } = pageOf(found, limit, ({ uid }) => uid, ({ uid, hostName, verdict }) => {
        const { value, validUntil, owes = false, standsUntil = null } = JSON.parse(verdict) as RuleVerdict
        return { uid, hostName, value, validUntil, owes, standsUntil }
      })
      return { items, next: next ?? looked?.uid ?? null }
    },
  }),
  handle(dryRunRuleSet, {
    async run(context, { body }) {
      const { errors } = await placesIn(context, body.ruleSet, body.replaces)
      if (errors.length > 0) throw new Fault('invalid', 'The rule set can not be taken.', { errors: errors.map(({ pointer, detail }) => ({ pointer: `/ruleSet${pointer}`, detail })) })
      await refuseSetTag(context, body.ruleSet.tag)
      // What would be refused when it is saved is no trial of anything.
      const before = body.replaces === null ? null : readRuleSet(await (body.inPack ? find : findOwn)(context, body.replaces))
      if (before !== null && before.tag !== body.ruleSet.tag) await refuseLeftReading(context, before)
      return await dryRun(context, body)
    },
  }),
  handle(createRuleSet, { run: (context, { body }) => save(context, crypto.randomUUID(), body, true) }),
  handle(replaceRuleSet, { run: (context, { params, body }) => save(context, params.id, body, false) }),
  handle(deleteRuleSet, {
    async run(context, { params }) {
      await remove(context, params.id)
      return { ok: true as const }
    },
  }),
  handle(reEvaluation, {
    async run(context) {
      const [rows, { revision, total, done, since, aside }] = [await selectStates(context), await context.env.RE_EVALUATION.getByName('one').progress()]
      const [wanted, evaluated] = [rulesRevisionOf(rows), evaluatedThrough(rows)]
      // Between an edit and the first step nothing is counted yet.
      const begun = revision === wanted || evaluated >= wanted
      return { revision: wanted, evaluatedRevision: evaluated, running: evaluated < wanted, total: begun ? total : (await countBehind(context.db, wanted))[0]?.count ?? 0, done: begun ? done : 0, since: begun ? since : null, aside }
    },
  }),
  handle(listTags, {
    async run({ db }, { query: { after, limit } }) {
      const rows = await db.select().from(tags).where(after === undefined ? undefined : gt(tags.uid, after)).orderBy(asc(tags.uid)).limit(limit + 1)
      return pageOf(rows, limit, ({ uid }) => uid, (row) => row as Tag)
    },
  }),
]
