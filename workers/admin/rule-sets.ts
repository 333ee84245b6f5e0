// Tagging rule sets and the tags they give. A change bumps the rules' revision in the same batch; every endpoint is then evaluated anew.
import { asc, eq, gt } from 'drizzle-orm'
import { checkRuleSet } from '../../domain/tagging/rule-set.ts'
import { Fault } from '../../protocol/faults.ts'
import { createRuleSet, deleteRuleSet, listRuleSets, listTags, replaceRuleSet } from '../../protocol/operations/admin.ts'
import type { RuleSet, RuleSetInput, Tag } from '../../protocol/rules.ts'
import { ruleSets, tags } from '../../schema/rules.ts'
import type { Context } from '../context.ts'
import { bumpState, states } from '../flows/documents.ts'
import { handle, type Route } from '../http/mount.ts'
import { pageOf } from './paging.ts'

const ZERO_TRUST = 1

async function save(context: Context, id: string, input: RuleSetInput): Promise<RuleSet> {
  const errors = checkRuleSet(input)
  if (errors.length > 0) throw new Fault('invalid', 'The rule set can not be taken.', { errors })
  const { db } = context
  const now = context.now()
  await db.insert(tags).values({ uid: crypto.randomUUID(), name: input.tag, type: ZERO_TRUST, createdAt: now }).onConflictDoNothing()
  const [tag] = await db.select().from(tags).where(eq(tags.name, input.tag))
  if (tag === undefined) throw new Error('the tag that was made can not be read back')
  const ruleSet: RuleSet = { id, tagUid: tag.uid, ...input }
  const row = { id, tagUid: tag.uid, body: JSON.stringify(ruleSet), updatedAt: now }
  await db.batch([db.insert(ruleSets).values(row).onConflictDoUpdate({ target: ruleSets.id, set: row }), bumpState(context, states.rules, now)])
  await announce(context)
  return ruleSet
}

/** Agents fetch what they answer, the EMS evaluates anew; both go on by themselves when this hint is lost. */
async function announce({ env, waitUntil }: Context): Promise<void> {
  await env.RE_EVALUATION.getByName('one').start()
  waitUntil(Promise.all('0123456789abcdef'.split('').map((shard) => env.ENDPOINT_CHANNEL.getByName(shard).broadcast({ type: 'report-now' }))))
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
      const before = await find(context, params.id)
      const after = await save(context, params.id, body)
      if (before.tagUid !== after.tagUid) await dropUnusedTag(context, before.tagUid)
      return after
    },
  }),
  handle(deleteRuleSet, {
    async run(context, { params }) {
      const { tagUid } = await find(context, params.id)
      await context.db.batch([context.db.delete(ruleSets).where(eq(ruleSets.id, params.id)), bumpState(context, states.rules, context.now())])
      await dropUnusedTag(context, tagUid)
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
async function dropUnusedTag({ db }: Context, uid: string): Promise<void> {
  const [left] = await db.select({ id: ruleSets.id }).from(ruleSets).where(eq(ruleSets.tagUid, uid)).limit(1)
  if (left === undefined) await db.delete(tags).where(eq(tags.uid, uid))
}
