// Whether a rule set may cease to give its tag: a condition of the very statement that writes it, since another edit may begin to read the tag meanwhile.
import { sql, type SQL } from 'drizzle-orm'

/** Holds when no rule set but `id` reads `tag` in a condition, or another one gives it too. */
export const nobodyLeftReading = (tag: string, id: string): SQL => sql`(
  NOT EXISTS (SELECT 1 FROM rule_sets r, json_tree(r.body, '$.rules') c WHERE r.id <> ${id} AND instr(r.body, '"tag-present"') > 0 AND c.key = 'tag' AND c.value = ${tag})
  OR EXISTS (SELECT 1 FROM rule_sets r JOIN tags t ON t.uid = r.tag_uid WHERE r.id <> ${id} AND t.name = ${tag}))`
