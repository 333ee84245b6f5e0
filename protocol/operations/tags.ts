// Tags that are set: classification by people, fabric tags by whoever watches. Listed are all of them, with those that rules give (operations/admin.ts).
import { z } from 'zod'
import { operation } from '../operation.ts'
import { uid, uuid } from '../ids.ts'
import { assignableType, assignment, importance, MOST_UIDS, tag, tagName, tagState } from '../rules.ts'
import { instant, line, lineOrEmpty } from '../text.ts'

const caller = 'administrator' as const
const byId = z.object({ id: uuid })
const uids = z.array(uid).min(1).max(MOST_UIDS)
/** Who sets it. A fabric tag is extended and cleared by the source that set it. */
const source = line(64).default('administrator')
/** For administrators: the device and its user are not told. */
const reason = lineOrEmpty(256).default('')

/** Endpoints by what became of them; each was told to its gateways before this was answered. */
const outcome = z.object({
  changed: z.number().int(), unchanged: z.number().int(),
  /** No registered endpoint has that UID. */
  unknown: z.array(uid),
  /** They bear as many settings as an endpoint may. */
  full: z.array(uid),
})

export const tagEndpoints = operation({
  id: 'tag-endpoints', method: 'GET', path: '/api/v1/admin/tags/{id}/endpoints', caller, summary: 'Endpoints that bear a tag, or of which it is unknown, by UID; of one that is set, by whom.', params: byId,
  query: z.object({ after: z.string().max(128).optional(), limit: z.coerce.number().int().min(1).max(200).default(50) }),
  reply: z.object({
    items: z.array(z.object({ uid, hostName: z.string(), state: tagState.shape.state, validUntil: instant.nullable(), since: instant, assigned: z.array(assignment.omit({ tagUid: true })) })),
    next: z.string().nullable(),
  }),
})
export const createTag = operation({
  id: 'create-tag', method: 'POST', path: '/api/v1/admin/tags', caller, summary: 'Add a tag that is set: classification (3) or fabric (4). Rules make their own.',
  body: z.strictObject({ name: tagName, type: assignableType, description: lineOrEmpty(512).default('') }), reply: tag,
})
export const deleteTag = operation({
  id: 'delete-tag', method: 'DELETE', path: '/api/v1/admin/tags/{id}', caller, summary: 'Remove a classification or fabric tag that no endpoint bears.', params: byId, reply: z.object({ ok: z.literal(true) }),
})
export const assignTag = operation({
  id: 'assign-tag', method: 'POST', path: '/api/v1/admin/tags/{id}/assign', caller, summary: 'Set a tag on endpoints, or extend it. Said again, it changes nothing.', params: byId,
  /** `until`: ms, when it ends by itself; null: when it is cleared. */
  body: z.strictObject({ uids, source, reason, until: instant.nullable().default(null) }), reply: outcome,
})
export const clearTag = operation({
  id: 'clear-tag', method: 'POST', path: '/api/v1/admin/tags/{id}/clear', caller, summary: 'Take a tag off endpoints. A fabric tag that another source set too stays.', params: byId,
  body: z.strictObject({ uids, source }), reply: outcome,
})
export const setImportance = operation({
  id: 'set-importance', method: 'POST', path: '/api/v1/admin/importance', caller, summary: 'How much endpoints matter: each bears one importance at most; null takes it off.',
  body: z.strictObject({ uids, importance: importance.nullable(), source, reason }), reply: outcome,
})
