// Imports and removes rule packs: one guarded batch replaces all that the pack brought; endpoints are then evaluated anew for what changed in meaning.
import canonicalize from 'canonicalize'
import type { BatchItem } from 'drizzle-orm/batch'
import { questionsOf } from '../../domain/tagging/agent-rules.ts'
import { checkPack, packOrder } from '../../domain/tagging/pack.ts'
import { meaningOf, standsUntil, systemsOf } from '../../domain/tagging/rule-set.ts'
import { checkTagsRead, leftReading, readsTags } from '../../domain/tagging/tags-read.ts'
import { Fault } from '../../protocol/faults.ts'
import type { PackInput } from '../../protocol/packs.ts'
import { ruleSetInput, tagTypes, type RuleSet, type RuleSetInput, type Tag } from '../../protocol/rules.ts'
import {
  bumpRules, deletePack, dropPackRuleSets, insertPack, notePackChanges, packById, packNamed, putPackRuleSets, putPackTags, ruleSetsOfPack, tagsNamed, tagsOfPack, updatePack, type PackRow,
} from '../../schema/queries/packs.ts'
import { dropUnusedTags } from '../../schema/queries/unused-tags.ts'
import { ruleSets, tags } from '../../schema/rules.ts'
import type { Context } from '../context.ts'
import { tagsChanged } from './announce.ts'
import { announceRules } from './announce-rules.ts'
import { newMark } from './commit-endpoint.ts'
import { beyondLimits } from './limit-rule-sets.ts'
import { readRuleSet } from './rules.ts'
import { bumpState, rulesRevisionOf, selectStates, states, stillAt } from './states.ts'

const ATTEMPTS = 5
const typeNumbers = { 'zero-trust': 1, 'outbreak': 2 } as const
type Action = 'imported' | 'replaced' | 'unchanged'

/** A pack as it was imported, from what is stored of it. */
export const packAsImported = (row: PackRow, ruleSets: readonly RuleSet[], tags: readonly Pick<Tag, 'name' | 'type' | 'description'>[]): PackInput => ({
  name: row.name, version: row.version, issuedAt: new Date(row.issuedAt).toISOString(), description: row.description,
  tags: tags.map(({ name, type, description }) => ({ name, type: type === 2 ? 'outbreak' as const : 'zero-trust' as const, description })).sort(byName),
  ruleSets: ruleSets.map(inputOf).sort(byName),
})
const byName = (a: { readonly name: string }, b: { readonly name: string }) => (a.name < b.name ? -1 : 1)
const inputOf = (ruleSet: RuleSet): RuleSetInput => ruleSetInput.strip().parse(ruleSet)
const sorted = (pack: PackInput): string => canonicalize({ ...pack, issuedAt: Date.parse(pack.issuedAt), tags: pack.tags.toSorted(byName), ruleSets: pack.ruleSets.toSorted(byName) }) ?? ''

export async function importPack(context: Context, input: PackInput): Promise<{ row: PackRow; action: Action }> {
  const errors = checkPack(input)
  if (errors.length > 0) throw new Fault('invalid', 'The pack can not be taken.', { errors: errors.slice(0, 20) })
  const { db } = context
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const [[before], alike] = await db.batch([packNamed(db, input.name), tagsNamed(db, input.tags.map(({ name }) => name))])
    refuseForeignTags(input, alike as Tag[])
    const stored = before === undefined ? [] : (await ruleSetsOfPack(db, before.id)).map(readRuleSet)
    if (before !== undefined) {
      const order = packOrder(input.version, before.version)
      if (order < 0) throw new Fault('conflict', `Version ${before.version} of "${input.name}" is here already; ${input.version} is older.`)
      if (order === 0) {
        if (sorted(packAsImported(before, stored, await tagsOfPack(db, before.id) as Tag[])) === sorted(input)) return { row: before, action: 'unchanged' }
        throw new Fault('conflict', `"${input.name}" is here in version ${before.version} with other contents: a pack that changed has a newer version.`)
      }
    }
    const now = context.now()
    const row: PackRow = { id: before?.id ?? crypto.randomUUID(), name: input.name, version: input.version, issuedAt: Date.parse(input.issuedAt), description: input.description, importedAt: now, mark: newMark() }
    const uids = new Map(alike.map(({ name, uid }) => [name, uid]))
    const next = input.ruleSets.map((each): RuleSet => ({ ...each, id: stored.find(({ name }) => name === each.name)?.id ?? crypto.randomUUID(), tagUid: uids.get(each.tag) ?? '' }))
    const beyond = await beyondLimits(context, input.ruleSets.map((each, at) => ({ input: each, pointer: `/ruleSets/${at}` })), stored.map(({ id }) => id))
    if (beyond.length > 0) throw new Fault('invalid', 'The pack can not be taken.', { errors: beyond })
    const still = stillAt(await refuseReading(context, input, stored, next))
    const first = before === undefined ? insertPack(db, row, still) : updatePack(db, before, row, still)
    const given = input.tags.map(({ name, type, description }) => ({ uid: crypto.randomUUID(), name, type: typeNumbers[type], description }))
    if (await edit(context, row, first, stored, next, now, [putPackTags(db, row, given, now)])) return { row, action: before === undefined ? 'imported' : 'replaced' }
  }
  throw busy()
}

export async function removePack(context: Context, id: string): Promise<void> {
  const { db } = context
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const [[before], stored] = await db.batch([packById(db, id), ruleSetsOfPack(db, id)])
    if (before === undefined) throw new Fault('not_found', 'There is no such pack.')
    const still = stillAt(await refuseReading(context, null, stored.map(readRuleSet), []))
    const row = { ...before, mark: newMark() }
    if (await edit(context, row, updatePack(db, before, row, still), stored.map(readRuleSet), [], context.now(), [], [deletePack(db, row)])) return
  }
  throw busy()
}
const busy = () => new Fault('busy', 'The pack is being changed by others; try again.', { retryAfterSeconds: 1 })

/** A tag has one type: what rules of another type give, or people set, is no tag of this pack. */
function refuseForeignTags({ tags }: PackInput, alike: readonly Tag[]): void {
  const errors = tags.flatMap(({ name, type }, index) => {
    const there = alike.find((each) => each.name === name)
    return there === undefined || there.type === typeNumbers[type] ? [] : [{ pointer: `/tags/${index}/name`, detail: `"${name}" is of type ${tagTypes[there.type]} here` }]
  })
  if (errors.length > 0) throw new Fault('invalid', 'The pack can not be taken.', { errors })
}

/** Every tag that the pack reads must be there and none be made of what it gives; and nobody may be left reading a tag that the pack no longer gives. @returns the revision of the rules that it was held against; null: none needed */
async function refuseReading(context: Context, input: PackInput | null, before: readonly RuleSet[], after: readonly RuleSet[]): Promise<number | null> {
  const lost = [...new Set(before.map(({ tag }) => tag))].filter((tag) => !after.some((each) => each.tag === tag))
  if (lost.length === 0 && !after.some(readsTags)) return null
  const { db } = context
  const [stored, there, rows] = await db.batch([db.select().from(ruleSets), db.select({ name: tags.name }).from(tags), selectStates(context)])
  const all = [...stored.map(readRuleSet).filter(({ id }) => !before.some((each) => each.id === id)), ...after]
  const names = new Set([...there.map(({ name }) => name), ...input?.tags.map(({ name }) => name) ?? []])
  const errors = after.flatMap((each, at) => checkTagsRead({ input: each, id: each.id, ruleSets: all, names }).map(({ pointer, detail }) => ({ pointer: `/ruleSets/${at}${pointer}`, detail })))
  if (errors.length > 0) throw new Fault('invalid', 'The pack can not be taken.', { errors: errors.slice(0, 20) })
  for (const tag of lost) {
    const [reader] = leftReading(tag, '', all)
    if (reader !== undefined) throw new Fault('conflict', `The rule set "${reader.name}" reads the tag "${tag}", which nothing else gives: change that first.`)
  }
  return rulesRevisionOf(rows)
}

/** @returns false: somebody else was first, and nothing was written */
async function edit(context: Context, row: PackRow, first: BatchItem<'sqlite'>, before: readonly RuleSet[], after: readonly RuleSet[], now: number, early: BatchItem<'sqlite'>[], late: BatchItem<'sqlite'>[] = []): Promise<boolean> {
  const { db } = context
  const gone = before.filter(({ id }) => !after.some((each) => each.id === id))
  const changed = after.flatMap((each) => {
    const was = before.find(({ id }) => id === each.id) ?? null
    return was !== null && was.tag === each.tag && meaningOf(was) === meaningOf(each) ? [] : [{ id: each.id, systems: systemsOf(each).join(','), standsUntil: standsUntil(was, each, now) }]
  })
  const changes = [...changed, ...gone.map(({ id }) => ({ id, systems: '', standsUntil: null }))]
  const asks = [...gone.map((each) => [each, null] as const), ...after.map((each) => [before.find(({ id }) => id === each.id) ?? null, each] as const)].some(([was, is]) => questionsOf(was) !== questionsOf(is))
  const [written] = await db.batch([
    first, ...early, putPackRuleSets(db, row, after.map((each) => ({ id: each.id, tag: each.tag, body: JSON.stringify(inputOf(each)) })), now), dropPackRuleSets(db, row, gone.map(({ id }) => id)), dropUnusedTags(db),
    ...(changes.length === 0 ? [] : [bumpRules(db, row, states.rules, changes.length, now), notePackChanges(db, row, states.rules, changes)]),
    bumpState(context, states.wording, now), ...(asks ? [bumpState(context, states.questions, now)] : []), tagsChanged(context), ...late,
  ] as unknown as [ReturnType<typeof insertPack>])
  if (written.meta.changes === 0) return false
  await announceRules(context, asks)
  return true
}
