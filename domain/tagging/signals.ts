// What other systems say of an endpoint: read by source. A source that has expired says nothing any more, good or bad.
import { severity, type Fact, type Sections, type Severity } from '../../protocol/facts.ts'
import type { Finding } from './condition-type.ts'

interface Told { readonly at: number; readonly expiresAt: number | null }
interface Detections extends Told { readonly detections: readonly { readonly name: string; readonly severity: Severity }[] }
const order = severity.options

/** Whether a source detected something of at least this severity. `false` needs every source that is asked to say so; one that has expired says neither. */
export function detected(fact: Fact, given: { readonly source?: string | undefined; readonly severity?: Severity | undefined }, now: number): Finding {
  const { sources } = fact.value as { readonly sources: Readonly<Record<string, Detections>> }
  const asked = Object.entries(sources).filter(([name]) => given.source === undefined || name === given.source)
  if (asked.length === 0) return { value: 'unknown', seen: given.source === undefined ? 'no source has said anything' : `${given.source} has said nothing`, validUntil: null }
  const standing = asked.filter(([, each]) => stands(each, now))
  const least = given.severity === undefined ? 0 : order.indexOf(given.severity)
  const found = standing.flatMap(([name, each]) => each.detections.filter((one) => order.indexOf(one.severity) >= least).map((one) => ({ name, one, told: each })))
  if (found.length > 0) {
    const lasting = found.map(({ told }) => told.expiresAt)
    return { value: 'true', seen: listed(found.map(({ name, one }) => `${one.name} (${one.severity}, by ${name})`)), validUntil: lasting.includes(null) ? null : Math.max(...lasting.map(Number)), factAt: Math.max(...found.map(({ told }) => told.at)) }
  }
  const factAt = Math.min(...asked.map(([, { at }]) => at))
  const expired = asked.filter(([, each]) => !stands(each, now))
  const ends = standing.flatMap(([, { expiresAt }]) => expiresAt ?? [])
  const validUntil = ends.length === 0 ? null : Math.min(...ends)
  if (expired.length > 0) return { value: 'unknown', seen: `what ${expired.map(([name]) => name).join(', ')} said has expired`, validUntil, factAt }
  // What nobody has rated may be of any severity.
  if (standing.some(([, each]) => each.detections.some((one) => one.severity === 'unrated'))) return { value: 'unknown', seen: 'something was detected without a severity', validUntil, factAt }
  return { value: 'false', seen: `nothing detected (${asked.map(([name]) => name).join(', ')})`, validUntil, factAt }
}

/** A source's score; null: it has none, or it has expired. */
export function scoreOf(fact: Fact, source: string, now: number): { readonly score: number; readonly told: Told } | null {
  const told = Object.entries((fact.value as Sections['scores']).sources).find(([name]) => name === source)?.[1]
  return told === undefined || !stands(told, now) ? null : { score: told.score, told }
}

export const stands = ({ expiresAt }: Pick<Told, 'expiresAt'>, now: number): boolean => expiresAt === null || expiresAt > now
const listed = (all: readonly string[]): string => all.slice(0, 3).join(', ') + (all.length > 3 ? `, and ${all.length - 3} more` : '')
