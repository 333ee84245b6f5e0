// Why an endpoint has its tags: from its facts as stored, or from who set them.
import { eq, sql } from 'drizzle-orm'
import { explainAssigned, readAssigned } from '../../domain/tagging/assigned.ts'
import type { RuleVerdicts } from '../../domain/tagging/evaluate.ts'
import { explainTag } from '../../domain/tagging/explain.ts'
import type { Tag, TagExplanation, TagState } from '../../protocol/rules.ts'
import { Fault } from '../../protocol/faults.ts'
import { endpoints } from '../../schema/endpoint.ts'
import { tags } from '../../schema/rules.ts'
import type { Context } from '../context.ts'
import { readFacts, selectSections } from './facts.ts'
import { rulesOf } from './rules.ts'
import { withoutEnded } from './signed-in.ts'
import { selectStates } from './states.ts'

const OUTBREAK = 2

/** Explains the tags asked for; or all that enabled rules give and that are set on it. Tags that there are not are left out. */
export async function explainTags(context: Context, uid: string, tagUids?: readonly string[]): Promise<TagExplanation[]> {
  const { db } = context
  const named = tagUids === undefined ? sql`SELECT json_extract(j.value, '$.tagUid') FROM endpoints e, json_each(e.assigned) j WHERE e.uid = ${uid} UNION SELECT uid FROM tags WHERE type = ${OUTBREAK}` : sql`SELECT value FROM json_each(${JSON.stringify(tagUids)})`
  const [stateRows, sections, [bearer], there] = await db.batch([
    selectStates(context), selectSections(db, uid), db.select({ assigned: endpoints.assigned, tags: endpoints.tags, verdicts: endpoints.verdicts, identityBy: endpoints.identityBy }).from(endpoints).where(eq(endpoints.uid, uid)), db.select().from(tags).where(sql`${tags.uid} IN (${named})`),
  ])
  const [{ rules }, facts, now] = [await rulesOf(context, stateRows), withoutEnded(bearer ?? { identityBy: null }, readFacts(sections)), context.now()]
  const bears = JSON.parse(bearer?.tags ?? '[]') as TagState[]
  const stored = JSON.parse(bearer?.verdicts ?? '{}') as RuleVerdicts
  const assigned = readAssigned(bearer?.assigned ?? '[]')
  const byUid = new Map(there.map((row) => [row.uid, row as Tag]))
  const byRules = (tagUid: string) => explainTag({ tagUid, rules, facts, bears, stored, outbreak: byUid.get(tagUid)?.type === OUTBREAK, now })
  // An outbreak's tag that no enabled rule set gives is nothing to this endpoint.
  const asked = tagUids ?? [...new Set([...rules.byTag.keys(), ...there.flatMap((tag) => (tag.type === OUTBREAK ? [] : tag.uid))])]
  return asked.flatMap((tagUid) => {
    const tag = byUid.get(tagUid)
    return byRules(tagUid) ?? (tag === undefined ? [] : explainAssigned(tag, assigned, now))
  })
}

export async function explainOneTag(context: Context, uid: string, tagUid: string): Promise<TagExplanation> {
  const [explained] = await explainTags(context, uid, [tagUid])
  if (explained === undefined) throw new Fault('not_found', 'There is no such tag.')
  return explained
}
