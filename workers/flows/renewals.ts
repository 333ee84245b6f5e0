// What an agent has looked at again and found unchanged: as much younger as rules demand it, and not a row more. It writes nothing itself.
import { demandsOf, isWorthARow, toMoveOn } from '../../domain/tagging/demand.ts'
import type { CompiledRules } from '../../domain/tagging/compile.ts'
import type { RuleVerdicts } from '../../domain/tagging/evaluate.ts'
import { osType, type ReportedName, type SectionName } from '../../protocol/facts.ts'
import type { EndpointRow } from '../../schema/endpoint.ts'
import type { StoredSection } from './facts.ts'

export interface Renewals {
  /** Stored section → since when it is known now (ms). */
  readonly at: ReadonlyMap<string, number>
  /** Rule sets whose verdict moves on by it. */
  readonly ruleSets: ReadonlySet<string>
}
const nothing: Renewals = { at: new Map(), ruleSets: new Set() }

/**
 * @param unchanged stored sections that have the hash which the agent gave
 * @param looked when it looked (ms), as it says: never later than now, and never back
 */
export function renewalsOf(rules: CompiledRules, endpoint: Pick<EndpointRow, 'os' | 'verdicts'>, unchanged: readonly StoredSection[], looked: { readonly [S in ReportedName]?: number | undefined }, now: number): Renewals {
  const os = osType.safeParse(endpoint.os)
  if (unchanged.length === 0 || !os.success) return nothing
  const ruleSets = rules.byOs[os.data]
  const demands = demandsOf(ruleSets.flatMap(({ conditions }) => conditions))
  const at = new Map(unchanged.flatMap(({ section, at: knownAt }) => {
    const seconds = demands[section as ReportedName]
    const lookedAt = Math.min(looked[section as ReportedName] ?? 0, now)
    return seconds !== undefined && isWorthARow(knownAt, lookedAt, seconds) ? [[section, lookedAt] as const] : []
  }))
  if (at.size === 0) return nothing
  return { at, ruleSets: toMoveOn(ruleSets, new Set(at.keys() as Iterable<SectionName>), JSON.parse(endpoint.verdicts) as RuleVerdicts, now) }
}
