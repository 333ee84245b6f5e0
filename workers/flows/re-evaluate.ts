// One page of re-evaluation: endpoints whose rules' revision is behind or whose verdict is due, each through the one guarded commit.
import { and, asc, eq, isNotNull, lte, ne, or } from 'drizzle-orm'
import { evaluateEndpoint } from '../../domain/tagging/evaluate.ts'
import type { TagState } from '../../protocol/rules.ts'
import { rulesState } from '../../schema/change-log.ts'
import { endpoints, type EndpointRow } from '../../schema/endpoint.ts'
import { dropTags, putTags } from '../../schema/queries/guarded.ts'
import { gatewaysConcerned } from '../../schema/queries/interest.ts'
import { makeContext, type Context } from '../context.ts'
import { readConfig, type Env } from '../env.ts'
import { RULES_STATE } from './change-endpoint.ts'
import { commitEndpoint } from './commit-endpoint.ts'
import { readFacts, selectSections } from './facts.ts'
import { rulesOf } from './rules.ts'

// Each endpoint takes three queries of the forty that an invocation may make.
const PAGE = 10

/** @returns when to go on (ms), or null: nothing is due. */
export async function reEvaluateSome(env: Env, now: number): Promise<number | null> {
  const context = makeContext(env, readConfig(env), new Request('https://object/'), { waitUntil: () => undefined })
  const { db } = context
  const [state] = await db.select().from(rulesState).where(eq(rulesState.id, RULES_STATE))
  const revision = state?.revision ?? 0
  const behind = and(eq(endpoints.registered, true), or(ne(endpoints.rulesRevision, revision), and(isNotNull(endpoints.nextDue), lte(endpoints.nextDue, now))))
  const page = await db.select().from(endpoints).where(behind).limit(PAGE)
  for (const endpoint of page) await reEvaluate(context, endpoint, revision)
  if (page.length === PAGE) return now
  const [next] = await db.select({ at: endpoints.nextDue }).from(endpoints).where(and(isNotNull(endpoints.nextDue), eq(endpoints.registered, true))).orderBy(asc(endpoints.nextDue)).limit(1)
  return next?.at ?? null
}

/** A conflict is no failure: whoever was first has evaluated with the newest facts, and what is still due comes up again. */
async function reEvaluate(context: Context, endpoint: EndpointRow, revision: number): Promise<void> {
  const { db } = context
  const [concerned, sections] = await db.batch([gatewaysConcerned(db, endpoint.uid), selectSections(db, endpoint.uid)])
  const { rules } = await rulesOf(context, revision)
  const now = context.now()
  const evaluation = evaluateEndpoint({ rules, facts: readFacts(sections), changed: 'all', previous: {}, now })
  const before = JSON.parse(endpoint.tags) as TagState[]
  const put = evaluation.tags.filter((tag) => !before.some((old) => old.tagUid === tag.tagUid && old.state === tag.state && old.validUntil === tag.validUntil))
  const gone = before.filter((old) => !evaluation.tags.some(({ tagUid }) => tagUid === old.tagUid)).map(({ tagUid }) => tagUid)
  await commitEndpoint(context, {
    endpoint, rulesRevision: revision, concerned, tables: put.length + gone.length > 0 ? ['uid_tags', 'tags'] : [],
    set: { rulesRevision: revision, verdicts: JSON.stringify(evaluation.verdicts), tags: JSON.stringify(evaluation.tags), nextDue: evaluation.nextDue },
    also: (guard) => [...(put.length === 0 ? [] : [putTags(db, guard, put, now)]), ...(gone.length === 0 ? [] : [dropTags(db, guard, gone)])],
  })
}
