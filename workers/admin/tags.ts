// Tags that are set: what there is of them, and on which endpoints.
import { eq } from 'drizzle-orm'
import { assign, unassign } from '../../domain/tagging/assigned.ts'
import { Fault } from '../../protocol/faults.ts'
import { assignTag, clearTag, createTag, deleteTag, setImportance } from '../../protocol/operations/tags.ts'
import { importance, importanceName, importanceTags, tagTypes, type Tag } from '../../protocol/rules.ts'
import { deleteUnborneTag, tagByUid } from '../../schema/queries/assigned.ts'
import { tags } from '../../schema/rules.ts'
import type { Context } from '../context.ts'
import { announceToGateways, tagsChanged } from '../flows/announce.ts'
import { resetTags } from '../flows/assign-tags.ts'
import { bumpState, states } from '../flows/states.ts'
import { handle, type Route } from '../http/mount.ts'

const CLASSIFICATION = 3

async function find({ db }: Context, id: string): Promise<Tag> {
  const [row] = await db.select().from(tags).where(eq(tags.uid, id))
  if (row === undefined) throw new Fault('not_found', 'There is no such tag.')
  const tag = row as Tag
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
