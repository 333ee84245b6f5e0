// Deregistration: one commit ends management, frees the seat and revokes every certificate; the agent is told by a signed document.
import type { TagState } from '../../protocol/rules.ts'
import { dropTags } from '../../schema/queries/guarded.ts'
import type { Context } from '../context.ts'
import { signFor } from './authority.ts'
import { revokeAll } from './certificates.ts'
import { changeEndpoint } from './change-endpoint.ts'

/** Idempotent: a deregistered endpoint stays as it is, with the document that it was deregistered by. */
export async function deregister(context: Context, uid: string, reason: string): Promise<void> {
  const document = await signFor(context, 'deregistration', uid, { reason })
  const { deregistration } = await changeEndpoint(context, uid, (endpoint) => (endpoint.registered ? {
    set: { registered: false, online: false, deregisteredAt: context.now(), deregistration: document, certificates: '[]', tags: '[]', verdicts: '{}', nextDue: null },
    tables: ['sysinfo', 'uid_tags', 'tags'],
    also: (guard) => [revokeAll(context, guard), dropTags(context.db, guard, (JSON.parse(endpoint.tags) as TagState[]).map(({ tagUid }) => tagUid))],
  } : 'tell-again'))
  const channel = context.env.ENDPOINT_CHANNEL.getByName(uid.slice(0, 1))
  await channel.push(uid, { type: 'document', kind: 'deregistration', document: deregistration ?? document })
  await channel.end(uid, null, 'deregistered')
}
