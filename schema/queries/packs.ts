// The guarded edit of a rule pack: the row of the pack takes a new mark, and whatever else belongs to the edit holds only under that mark.
import { and, eq, sql, type SQL } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { rulesState } from '../change-log.ts'
import { packs, ruleChanges, ruleSets, tags } from '../rules.ts'

export type PackRow = typeof packs.$inferSelect
/** The pack as it was read, and the mark of this edit. */
export interface PackEdit { readonly id: string; readonly mark: string }
const json = (rows: readonly unknown[]): SQL => sql`json_each(${JSON.stringify(rows)})`
const holds = ({ id, mark }: PackEdit): SQL => sql`EXISTS (SELECT 1 FROM packs WHERE id = ${id} AND mark = ${mark})`

export const packNamed = (db: DrizzleD1Database, name: string) => db.select().from(packs).where(eq(packs.name, name))
export const packById = (db: DrizzleD1Database, id: string) => db.select().from(packs).where(eq(packs.id, id))
export const ruleSetsOfPack = (db: DrizzleD1Database, id: SQL | string) => db.select().from(ruleSets).where(sql`${ruleSets.packId} = ${id}`)
export const tagsNamed = (db: DrizzleD1Database, names: readonly string[]) => db.select().from(tags).where(sql`${tags.name} IN (SELECT value FROM ${json(names)})`)
export const tagsOfPack = (db: DrizzleD1Database, id: string) => db.select().from(tags).where(sql`${tags.uid} IN (SELECT tag_uid FROM rule_sets WHERE pack_id = ${id})`)

/** The first statement: changes no row when somebody else imported or removed the pack meanwhile, or edited the rules that it was held against (`still`). */
export const insertPack = (db: DrizzleD1Database, row: PackRow, still: SQL) => db.insert(packs)
  .select(sql`SELECT ${row.id}, ${row.name}, ${row.version}, ${row.issuedAt}, ${row.description}, ${row.importedAt}, ${row.mark} WHERE ${still}`).onConflictDoNothing()
export const updatePack = (db: DrizzleD1Database, before: PackRow, set: Omit<PackRow, 'id' | 'name'>, still: SQL) => db.update(packs).set(set).where(and(eq(packs.id, before.id), eq(packs.mark, before.mark), still))
export const deletePack = (db: DrizzleD1Database, { id, mark }: PackEdit) => db.delete(packs).where(and(eq(packs.id, id), eq(packs.mark, mark)))

// Inserts are written with `.select(sql)`: all columns, in the table's order (see guarded.ts).
export const putPackTags = (db: DrizzleD1Database, edit: PackEdit, rows: readonly { uid: string; name: string; type: number; description: string }[], now: number) => db.insert(tags)
  .select(sql`SELECT value ->> 'uid', value ->> 'name', value ->> 'type', value ->> 'description', ${now} FROM ${json(rows)} WHERE ${holds(edit)}`)
  .onConflictDoUpdate({ target: tags.name, set: { description: sql`excluded.description` }, setWhere: sql`${tags.type} = excluded.type` })
export const putPackRuleSets = (db: DrizzleD1Database, edit: PackEdit, rows: readonly { id: string; tag: string; body: string }[], now: number) => db.insert(ruleSets)
  .select(sql`SELECT value ->> 'id', (SELECT uid FROM tags WHERE name = value ->> 'tag' AND type IN (1, 2)), value ->> 'body', ${now}, ${edit.id} FROM ${json(rows)} WHERE ${holds(edit)}`)
  .onConflictDoUpdate({ target: ruleSets.id, set: { tagUid: sql`excluded.tag_uid`, body: sql`excluded.body`, updatedAt: now } })
export const dropPackRuleSets = (db: DrizzleD1Database, edit: PackEdit, ids: readonly string[]) => db.delete(ruleSets)
  .where(sql`${ruleSets.packId} = ${edit.id} AND ${ruleSets.id} IN (SELECT value FROM ${json(ids)}) AND ${holds(edit)}`)

/** As many revisions as rule sets changed: each revision is about one. */
export const bumpRules = (db: DrizzleD1Database, edit: PackEdit, state: number, by: number, now: number) => db.insert(rulesState)
  .select(sql`SELECT ${state}, ${by}, ${now} WHERE ${holds(edit)}`)
  .onConflictDoUpdate({ target: rulesState.id, set: { revision: sql`revision + ${by}`, changedAt: sql`max(changed_at + 1, ${now})` } })
/** Which rule set each of the revisions that this batch has just made is about. */
export const notePackChanges = (db: DrizzleD1Database, edit: PackEdit, state: number, changes: readonly { id: string; systems: string; standsUntil: number | null }[]) => db.insert(ruleChanges)
  .select(sql`SELECT r.revision - ${changes.length} + 1 + j.key, j.value ->> 'id', j.value ->> 'systems', j.value ->> 'standsUntil' FROM rules_state r, ${json(changes)} j WHERE r.id = ${state} AND ${holds(edit)}`)
