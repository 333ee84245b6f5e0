// Deregistration: one commit ends management, frees the seat and revokes every certificate; the agent is told by a signed document.
import { eq } from 'drizzle-orm'
import { Fault } from '../../protocol/faults.ts'
import type { TagState } from '../../protocol/rules.ts'
import { endpoints } from '../../schema/endpoint.ts'
import { dropSections, dropTags } from '../../schema/queries/guarded.ts'
import { withdraw } from '../../schema/queries/sign-in.ts'
import type { Context } from '../context.ts'
import { signFor } from './authority.ts'
import { revokeAll } from './certificates.ts'
import { changeEndpoint } from './change-endpoint.ts'

/**
 * Idempotent: a deregistered endpoint stays as it is, with the document that it was deregistered by. Without the CA's key it is cut off all
 * the same; the document follows when it is asked for again with the key.
 */
export async function deregister(context: Context, uid: string, reason: string): Promise<void> {
  const { db } = context
  const document = await signFor(context, 'deregistration', uid, { reason }).catch((cause: unknown) => {
    if (cause instanceof Fault && cause.code === 'ca_locked') return null
    throw cause
  })
  try {
    await changeEndpoint(context, uid, (endpoint) => {
      if (!endpoint.registered) return endpoint.deregistration === null && document !== null ? { set: { deregistration: document }, tables: ['sysinfo'] } : 'tell-again'
      return {
        set: { registered: false, online: false, onFabric: false, fabricBy: null, fabricUntil: null, deregisteredAt: context.now(), deregistration: document, certificates: '[]', tags: '[]', assigned: '[]', verdicts: '{}', nextDue: null, identityBy: null, identityUntil: null },
        tables: ['sysinfo', 'uid_tags', 'tags'],
        also: (guard) => [revokeAll(context, guard), dropSections(db, guard, ['identity']), withdraw(db, uid), dropTags(db, guard, (JSON.parse(endpoint.tags) as TagState[]).map(({ tagUid }) => tagUid))],
      }
    })
  } finally {
    // Whether or not every gateway has acknowledged: what is written is what the agent is told.
    const [row] = await db.select({ registered: endpoints.registered, deregistration: endpoints.deregistration }).from(endpoints).where(eq(endpoints.uid, uid))
    if (row?.registered === false) await letGo(context, uid, row.deregistration)
  }
}

async function letGo({ env }: Context, uid: string, document: string | null): Promise<void> {
  const channel = env.ENDPOINT_CHANNEL.getByName(uid.slice(0, 1))
  if (document !== null) await channel.push(uid, { type: 'document', kind: 'deregistration', document })
  await channel.end(uid, null, 'deregistered')
}
