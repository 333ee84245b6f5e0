// Why an endpoint has its tags, from its facts as stored.
import { explainTag } from '../../domain/tagging/explain.ts'
import type { TagExplanation } from '../../protocol/rules.ts'
import { Fault } from '../../protocol/faults.ts'
import type { Context } from '../context.ts'
import { readFacts, selectSections } from './facts.ts'
import { rulesOf } from './rules.ts'
import { selectStates } from './states.ts'

/** Explains the tags asked for, or all; tags that no enabled rule gives are left out. */
export async function explainTags(context: Context, uid: string, tagUids?: readonly string[]): Promise<TagExplanation[]> {
  const [stateRows, sections] = await context.db.batch([selectStates(context), selectSections(context.db, uid)])
  const { rules } = await rulesOf(context, stateRows)
  const facts = readFacts(sections)
  return (tagUids ?? [...rules.byTag.keys()]).flatMap((tagUid) => explainTag({ tagUid, rules, facts, now: context.now() }) ?? [])
}

export async function explainOneTag(context: Context, uid: string, tagUid: string): Promise<TagExplanation> {
  const [explained] = await explainTags(context, uid, [tagUid])
  if (explained === undefined) throw new Fault('not_found', 'No enabled rule gives that tag.')
  return explained
}
