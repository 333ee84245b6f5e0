// Tagging rule sets and the tags they give. A change of what one decides bumps the rules' revision in the same batch, and endpoints that it concerns are evaluated anew.
import { and, asc, eq, gt, sql } from 'drizzle-orm'
import { questionsOf } from '../../domain/tagging/agent-rules.ts'
import { checkRuleSet, meaningOf, standsUntil, systemsOf } from '../../domain/tagging/rule-set.ts'
import { Fault } from '../../protocol/faults.ts'
import { createRuleSet, deleteRuleSet, listRuleSets, listTags, reEvaluation, replaceRuleSet } from '../../protocol/operations/admin.ts'
import { tagTypes, type RuleSet, type RuleSetInput, type Tag } from '../../protocol/rules.ts'
import { countBehind } from '../../schema/queries/behind.ts'
import { ruleChanges, ruleSets, tags } from '../../schema/rules.ts'
import { logEvent, type Context } from '../context.ts'
import { announceToAgents, announceToGateways, tagsChanged } from '../flows/announce.ts'
import { readRuleSet } from '../flows/rules.ts'
import { bumpState, evaluatedThrough, rulesRevisionOf, selectStates, states } from '../flows/states.ts'
import { handle, type Route } from '../http/mount.ts'
import { pageOf } from './paging.ts'

const ZERO_TRUST = 1
const ATTEMPTS = 5
type Row = typeof ruleSets.$inferSelect

async function save(context: Context, id: string, input: RuleSetInput, create: boolean): Promise<RuleSet> {
  const errors = checkRuleSet(input)
  if (errors.length > 0) throw new Fault('invalid', 'The rule set can not be taken.', { errors })
  const { db } = context
  await refuseSetTag(context, input.tag)
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const row = create ? null : await findOwn(context, id)
    const before = row === null ? null : readRuleSet(row)
    const now = context.now()
    if (row !== null && before?.tag === input.tag && meaningOf(before) === meaningOf({ id, tagUid: before.tagUid, ...input })) {
      // A name, a message, a comment: nothing is decided otherwise, so nothing is evaluated and nobody need hear of it.
      const [saved] = await db.batch([write(context, id, row, input, now), bumpState(context, states.wording, now)])
      if (saved.meta.changes > 0) return { id, tagUid: before.tagUid, ...input }
      continue
    }
    const asks = questionsOf(before) !== questionsOf({ id, tagUid: '', ...input })
    const [, saved, , , , , [tag]] = await db.batch([
      db.insert(tags).values({ uid: crypto.randomUUID(), name: input.tag, type: ZERO_TRUST, createdAt: now }).onConflictDoNothing(),
      write(context, id, row, input, now), dropUnusedTags(context), bumpState(context, states.rules, now), noteChange(context, id, systemsOf(input), before?.tag === input.tag ? standsUntil(before, { id, tagUid: before.tagUid, ...input }, now) : null), tagsChanged(context),
      db.select().from(tags).where(eq(tags.name, input.tag)), ...(asks ? [bumpState(context, states.questions, now)] : []),
    ])
    if (saved.meta.changes === 0 || tag === undefined) continue
    await announce(context, asks)
    return { id, tagUid: tag.uid, ...input }
  }
  throw new Fault('busy', 'The rule set is being changed by others; try again.', { retryAfterSeconds: 1 })
}

/** An edit is guarded by what it was made of: somebody else may have changed the rule set since. The tag is there, for the same batch made it. */
function write({ db }: Context, id: string, before: Row | null, input: RuleSetInput, now: number) {
  const [body, tagUid] = [JSON.stringify(input), sql`(SELECT uid FROM tags WHERE name = ${input.tag} AND type IN (1, 2))`]
  return before === null ? db.insert(ruleSets).values({ id, tagUid, body, updatedAt: now }) : db.update(ruleSets).set({ tagUid, body, updatedAt: now }).where(and(eq(ruleSets.id, id), eq(ruleSets.body, before.body)))
}

/** Which rule set the revision that this batch has just made is about. */
const noteChange = ({ db }: Context, id: string, systems: readonly string[], stands: number | null) =>
  db.insert(ruleChanges).select(sql`SELECT revision, ${id}, ${systems.join(',')}, ${stands} FROM rules_state WHERE id = ${states.rules}`)

/** The edit stands whoever hears of it: an administrator must not be told to send it again. Who did not hear is told by the re-evaluation, and that is begun by the cron at the latest. */
async function announce(context: Context, asks: boolean): Promise<void> {
  if (asks) announceToAgents(context)
  const orSay = (event: string) => (cause: unknown) => {
    logEvent(event, { cause: cause instanceof Error ? cause.message : String(cause) })
    return false
  }
  const told = await announceToGateways(context).then(() => true, orSay('gateways-not-told'))
  await context.env.RE_EVALUATION.getByName('one').start(!told).then(() => true, orSay('re-evaluation-not-started'))
}

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

export const ruleSetRoutes: Route[] = [
  handle(listRuleSets, {
    async run({ db }, { query: { after, limit } }) {
      const rows = await db.select().from(ruleSets).where(after === undefined ? undefined : gt(ruleSets.id, after)).orderBy(asc(ruleSets.id)).limit(limit + 1)
      return pageOf(rows, limit, ({ id }) => id, readRuleSet)
    },
  }),
  handle(createRuleSet, { run: (context, { body }) => save(context, crypto.randomUUID(), body, true) }),
  handle(replaceRuleSet, { run: (context, { params, body }) => save(context, params.id, body, false) }),
  handle(deleteRuleSet, {
    async run(context, { params }) {
      const before = readRuleSet(await findOwn(context, params.id))
      const [now, asked] = [context.now(), questionsOf(before) !== questionsOf(null)]
      await context.db.batch([
        context.db.delete(ruleSets).where(eq(ruleSets.id, params.id)), dropUnusedTags(context), bumpState(context, states.rules, now), noteChange(context, params.id, [], null), tagsChanged(context),
        ...(asked ? [bumpState(context, states.questions, now)] : []),
      ])
      await announce(context, asked)
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

/** A tag that no rule set gives any more is gone with the last one. */
export const dropUnusedTags = ({ db }: Pick<Context, 'db'>) => db.delete(tags).where(sql`${tags.type} IN (1, 2) AND NOT EXISTS (SELECT 1 FROM rule_sets r WHERE r.tag_uid = ${tags.uid})`)
