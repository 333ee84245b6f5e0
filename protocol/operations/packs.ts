// Rule packs: rule sets and their tags under one name and version, imported and removed as a whole.
import { z } from 'zod'
import { operation } from '../operation.ts'
import { uuid } from '../ids.ts'
import { pack, packInput } from '../packs.ts'

const caller = 'administrator' as const
const byId = z.object({ id: uuid })
const listQuery = z.object({ after: z.string().max(128).optional(), limit: z.coerce.number().int().min(1).max(200).default(50) })

export const listPacks = operation({ id: 'list-packs', method: 'GET', path: '/api/v1/admin/packs', caller, summary: 'Rule packs, by id.', query: listQuery, reply: z.object({ items: z.array(pack), next: z.string().nullable() }) })
export const readPack = operation({ id: 'read-pack', method: 'GET', path: '/api/v1/admin/packs/{id}', caller, summary: 'One rule pack, as it was imported.', params: byId, reply: z.object({ id: uuid, pack: packInput }) })
export const importPack = operation({
  id: 'import-pack', method: 'POST', path: '/api/v1/admin/packs', caller, maxBodyBytes: 512 * 1024, summary: 'Import a rule pack. A newer version replaces the rule sets of the one before; an older one is refused.',
  body: packInput, reply: z.object({ pack, action: z.enum(['imported', 'replaced', 'unchanged']) }),
})
export const removePack = operation({ id: 'remove-pack', method: 'DELETE', path: '/api/v1/admin/packs/{id}', caller, summary: 'Remove a rule pack and whatever it tagged.', params: byId, reply: z.object({ ok: z.literal(true) }) })
