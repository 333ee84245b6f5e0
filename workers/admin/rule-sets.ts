// Tagging rule sets and the tags they give. A change bumps the rules' revision in the same batch; every endpoint is then evaluated anew.
import { asc, eq, gt, sql } from 'drizzle-orm'
import { checkRuleSet } from '../../domain/tagging/rule-set.ts'
import { Fault } from '../../protocol/faults.ts'
import { createRuleSet, deleteRuleSet, listRuleSets, listTags, replaceRuleSet } from '../../protocol/operations/admin.ts'
import type { RuleSet, RuleSetInput, Tag } from '../../protocol/rules.ts'
import { ruleSets, tags } from '../../schema/rules.ts'
import type { Context } from '../context.ts'
import { announceToAgents, announceToGateways, tagsChanged } from '../flows/announce.ts'
import { bumpState, states } from '../flows/documents.ts'
import { handle, type Route } from '../http/mount.ts'
import { pageOf } from './paging.ts'

const ZERO_TRUST = 1
const ATTEMPTS = 3

async function save(context: Context, id: string, input: RuleSetInput): Promise<RuleSet> {
  const errors = checkRuleSet(input)
  if (errors.length > 0) throw new Fault('invalid', 'The rule set can not be taken.', { errors })
  const { db } = context
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const now = context.now()
    await db.insert(tags).values({ uid: crypto.randomUUID(), name: input.tag, type: ZERO_TRUST, createdAt: now }).onConflictDoNothing()
    const [tag] = await db.select().from(tags).where(eq(tags.name, input.tag))
    if (tag === undefined) continue
    const ruleSet: RuleSet = { id, tagUid: tag.uid, ...input }
    // Guarded: somebody else may remove the last rule set of that tag, and the tag with it, before this is written.
    const [saved] = await db.batch([
      db.insert(ruleSets).select(sql`SELECT ${id}, ${tag.uid}, ${JSON.stringify(ruleSet)}, ${now} WHERE EXISTS (SELECT 1 FROM tags WHERE uid = ${tag.uid})`)
        .onConflictDoUpdate({ target: ruleSets.id, set: { tagUid: sql`excluded.tag_uid`, body: sql`excluded.body`, updatedAt: sql`excluded.updated_at` } }),
      dropUnusedTags(context), bumpState(context, states.rules, now), tagsChanged(context),
    ])
    if (saved.meta.changes === 0) continue
    await announce(context)
    return ruleSet
  }
  throw new Fault('busy', 'The tag is being changed by others; try again.', { retryAfterSeconds: 1 })
}

/** Agents fetch what they answer, the EMS evaluates anew, gateways learn the tags; all go on by themselves when this is lost. */
async function announce(context: Context): Promise<void> {
  announceToAgents(context)
  await Promise.all([context.env.RE_EVALUATION.getByName('one').start(), announceToGateways(context)])
}

async function find({ db }: Context, id: string) {
  const [row] = await db.select().from(ruleSets).where(eq(ruleSets.id, id))
  if (row === undefined) throw new Fault('not_found', 'There is no such rule set.')
  return row
}

export const ruleSetRoutes: Route[] = [
  handle(listRuleSets, {
    async run({ db }, { query: { after, limit } }) {
      const rows = await db.select().from(ruleSets).where(after === undefined ? undefined : gt(ruleSets.id, after)).orderBy(asc(ruleSets.id)).limit(limit + 1)
      return pageOf(rows, limit, ({ id }) => id, ({ body }) => JSON.parse(body) as RuleSet)
    },
  }),
  handle(createRuleSet, { run: (context, { body }) => save(context, crypto.randomUUID(), body) }),
  handle(replaceRuleSet, {
    async run(context, { params, body }) {
      await find(context, params.id)
      return await save(context, params.id, body)
    },
  }),
  handle(deleteRuleSet, {
    async run(context, { params }) {
      await find(context, params.id)
      await context.db.batch([context.db.delete(ruleSets).where(eq(ruleSets.id, params.id)), dropUnusedTags(context), bumpState(context, states.rules, context.now()), tagsChanged(context)])
      await announce(context)
      return { ok: true as const }
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
const dropUnusedTags = ({ db }: Context) => db.delete(tags).where(sql`${tags.type} = ${ZERO_TRUST} AND NOT EXISTS (SELECT 1 FROM rule_sets r WHERE r.tag_uid = ${tags.uid})`)
