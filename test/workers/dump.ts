// The whole database, as rows: what a refusal must leave as it was. Tables that a later migration adds are in it by themselves.
import { real } from './standing.ts'

const { DB } = real

export async function dump(): Promise<Record<string, unknown[]>> {
  const { results } = await DB.prepare('SELECT name FROM sqlite_master WHERE type = \'table\' AND name NOT LIKE \'sqlite_%\' AND name NOT LIKE \'_cf_%\' AND name <> \'d1_migrations\' ORDER BY name').all<{ name: string }>()
  const all = await DB.batch(results.map(({ name }) => DB.prepare(`SELECT * FROM "${name}"`)))
  return Object.fromEntries(results.map(({ name }, index) => [name, all[index]?.results ?? []]))
}
