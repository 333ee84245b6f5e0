// The rules as they are now, compiled once per revision and isolate.
import { compileRules, type CompiledRules } from '../../domain/tagging/compile.ts'
import type { RuleSet } from '../../protocol/rules.ts'
import { ruleSets } from '../../schema/rules.ts'
import type { Context } from '../context.ts'

let held: { readonly rules: CompiledRules; readonly ruleSets: readonly RuleSet[] } | null = null

/** The rules of a revision; read from D1 only when this isolate holds another one. */
export async function rulesOf(context: Context, revision: number): Promise<{ readonly rules: CompiledRules; readonly ruleSets: readonly RuleSet[] }> {
  if (held?.rules.revision === revision && revision > 0) return held
  const rows = await context.db.select().from(ruleSets)
  const read = rows.map(({ body }) => JSON.parse(body) as RuleSet)
  held = { rules: compileRules(read, revision), ruleSets: read }
  return held
}
