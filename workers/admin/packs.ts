// Rule packs: what there is of them; imported and removed as a whole.
import { asc, gt, sql } from 'drizzle-orm'
import { Fault } from '../../protocol/faults.ts'
import { importPack, listPacks, readPack, removePack } from '../../protocol/operations/packs.ts'
import type { Pack } from '../../protocol/packs.ts'
import type { Tag } from '../../protocol/rules.ts'
import { packById, ruleSetsOfPack, tagsOfPack, type PackRow } from '../../schema/queries/packs.ts'
import { packs } from '../../schema/rules.ts'
import type { Context } from '../context.ts'
import { importPack as take, packAsImported, removePack as remove } from '../flows/import-pack.ts'
import { readRuleSet } from '../flows/rules.ts'
import { handle, type Route } from '../http/mount.ts'
import { pageOf } from './paging.ts'

type Counted = Omit<PackRow, 'mark'> & { readonly ruleSets: number; readonly tags: string }
const shown = ({ id, name, version, issuedAt, description, importedAt, ruleSets, tags }: Counted): Pack => ({ id, name, version, issuedAt, description, importedAt, ruleSets, tags: JSON.parse(tags) as string[] })
/** Packs with what they brought, by id. */
const counted = ({ db }: Context) => db.select({
  id: packs.id, name: packs.name, version: packs.version, issuedAt: packs.issuedAt, description: packs.description, importedAt: packs.importedAt,
  ruleSets: sql<number>`(SELECT count(*) FROM rule_sets r WHERE r.pack_id = packs.id)`,
  tags: sql<string>`(SELECT json_group_array(name) FROM (SELECT t.name FROM tags t WHERE t.uid IN (SELECT r.tag_uid FROM rule_sets r WHERE r.pack_id = packs.id) ORDER BY t.name))`,
}).from(packs)

export const packRoutes: Route[] = [
  handle(listPacks, {
    async run(context, { query: { after, limit } }) {
      const rows = await counted(context).where(after === undefined ? undefined : gt(packs.id, after)).orderBy(asc(packs.id)).limit(limit + 1)
      return pageOf(rows, limit, ({ id }) => id, shown)
    },
  }),
  handle(readPack, {
    async run({ db }, { params: { id } }) {
      const [[row], ruleSets, tags] = await db.batch([packById(db, id), ruleSetsOfPack(db, id), tagsOfPack(db, id)])
      if (row === undefined) throw new Fault('not_found', 'There is no such pack.')
      return { id, pack: packAsImported(row, ruleSets.map(readRuleSet), tags as Tag[]) }
    },
  }),
  handle(importPack, {
    async run(context, { body }) {
      const { row, action } = await take(context, body)
      return { pack: { ...row, ruleSets: body.ruleSets.length, tags: body.tags.map(({ name }) => name).sort() }, action }
    },
  }),
  handle(removePack, {
    async run(context, { params }) {
      await remove(context, params.id)
      return { ok: true as const }
    },
  }),
]
