// Tags that are set: what there is of them, and on which endpoints.
import { assign, readAssigned, unassign } from '../../domain/tagging/assigned.ts'
import { leftReading } from '../../domain/tagging/tags-read.ts'
import { Fault } from '../../protocol/faults.ts'
import { assignTag, clearTag, createTag, deleteTag, setImportance, tagEndpoints } from '../../protocol/operations/tags.ts'
import { importance, importanceName, importanceTags, tagTypes, type Tag } from '../../protocol/rules.ts'
import { deleteUnborneTag, tagBearers, tagByUid } from '../../schema/queries/assigned.ts'
import { ruleSets, tags } from '../../schema/rules.ts'
import type { Context } from '../context.ts'
import { announceToGateways, tagsChanged } from '../flows/announce.ts'
import { resetTags } from '../flows/assign-tags.ts'
import { readRuleSet } from '../flows/rules.ts'
import { bumpState, states } from '../flows/states.ts'
import { handle, type Route } from '../http/mount.ts'
import { pageOf } from './paging.ts'

const CLASSIFICATION = 3

async function findAny({ db }: Context, id: string): Promise<Tag> {
  const [row] = await tagByUid(db, id)
  if (row === undefined) throw new Fault('not_found', 'There is no such tag.')
  return row as Tag
}

/** One that is set. */
async function find(context: Context, id: string): Promise<Tag> {
  const tag = await findAny(context, id)
  if (tag.type < CLASSIFICATION) throw new Fault('invalid', `"${tag.name}" is given by rules; nobody sets it.`, { errors: [{ pointer: '/params/id', detail: `is a ${tagTypes[tag.type]} tag` }] })
  return tag
}

/** Rules may name it: whoever holds them compiled reads them anew. */
const renamed = (context: Context) => bumpState(context, states.wording, context.now())

/** The four of them, made by the first setting of any. Whoever has taken one of their names keeps it, and is told. */
async function ensureImportances(context: Context): Promise<void> {
  const { db } = context
  const rows = importance.options.map((level) => ({ uid: importanceTags[level], name: importanceName(level), type: CLASSIFICATION, description: '', createdAt: context.now() }))
  const [there] = await tagByUid(db, importanceTags.critical)
  if (there !== undefined) return
  const [made] = await db.batch([db.insert(tags).values(rows).onConflictDoNothing({ target: tags.uid }), renamed(context), tagsChanged(context)]).catch((cause: unknown) => {
    if (String(cause instanceof Error ? cause.cause ?? cause : cause).includes('UNIQUE')) throw new Fault('conflict', `Another tag bears the name of an importance (${rows.map(({ name }) => name).join(', ')}): rename what gives it.`, { cause })
    throw cause
  })
  if (made.meta.changes > 0) await announceToGateways(context)
}

export const tagRoutes: Route[] = [
  handle(tagEndpoints, {
    async run(context, { params, query: { after = '', limit } }) {
      const tag = await findAny(context, params.id)
      const rows = await tagBearers(context.db, tag.uid, after, limit + 1)
      return pageOf(rows, limit, ({ uid }) => uid, ({ assigned, ...row }) => ({ ...row, assigned: readAssigned(assigned).filter(({ tagUid }) => tagUid === tag.uid).map(({ source, reason, at, until }) => ({ source, reason, at, until })) }))
    },
  }),
  handle(createTag, {
    async run(context, { body }) {
      const { db } = context
      const tag: Tag = { uid: crypto.randomUUID(), ...body, createdAt: context.now() }
      const [made] = await db.batch([db.insert(tags).values(tag).onConflictDoNothing(), renamed(context), tagsChanged(context)])
      if (made.meta.changes === 0) throw new Fault('conflict', `There is a tag "${body.name}" already.`)
      await announceToGateways(context)
      return tag
    },
  }),
  handle(deleteTag, {
    async run(context, { params }) {
      const tag = await find(context, params.id)
      const [reader] = leftReading(tag.name, '', (await context.db.select().from(ruleSets)).map(readRuleSet))
      if (reader !== undefined) throw new Fault('conflict', `The rule set "${reader.name}" reads the tag "${tag.name}": change that first.`)
      const [gone] = await context.db.batch([deleteUnborneTag(context.db, tag.uid), renamed(context), tagsChanged(context)])
      if (gone.meta.changes === 0) throw new Fault('conflict', `Endpoints bear the tag "${tag.name}": clear it first.`)
      await announceToGateways(context)
      return { ok: true as const }
    },
  }),
  handle(assignTag, {
    async run(context, { params, body: { uids, source, reason, until } }) {
      const [{ uid: tagUid, type }, now] = [await find(context, params.id), context.now()]
      if (until !== null && until <= now) throw new Fault('invalid', 'The tag would have ended already.', { errors: [{ pointer: '/until', detail: 'is over' }] })
      return await resetTags(context, uids, (before) => assign(before, type, { tagUid, source, reason, at: now, until }))
    },
  }),
  handle(clearTag, {
    async run(context, { params, body: { uids, source } }) {
      const { uid: tagUid, type } = await find(context, params.id)
      return await resetTags(context, uids, (before) => unassign(before, type, { tagUid, source }, context.now()))
    },
  }),
  handle(setImportance, {
    async run(context, { body: { uids, importance: level, source, reason } }) {
      await ensureImportances(context)
      const now = context.now()
      return await resetTags(context, uids, (before) => (level === null
        ? Object.values(importanceTags).reduce<ReturnType<typeof unassign>>((left, tagUid) => noted(left, unassign(left === 'unchanged' ? before : left, CLASSIFICATION, { tagUid, source }, now)), 'unchanged')
        : assign(before, CLASSIFICATION, { tagUid: importanceTags[level], source, reason, at: now, until: null })))
    },
  }),
]
const noted = <T>(before: T | 'unchanged', after: T | 'unchanged'): T | 'unchanged' => (after === 'unchanged' ? before : after)
