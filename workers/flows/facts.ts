// The facts of an endpoint as stored: deflated canonical JSON by section.
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import { eq } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { combine, type DatedMatches } from '../../domain/vulnerability/combine.ts'
import { provenanceOf, type Fact, type Facts, type SectionName, type Sections } from '../../protocol/facts.ts'
import { endpointSections } from '../../schema/endpoint.ts'
import { MATCHES, readIds, readMatches, SOFTWARE, softwareOf } from './inventory.ts'

export interface StoredSection { readonly section: string; readonly hash: string; readonly at: number; readonly body: Uint8Array }

export const packSection = (canonical: string): Uint8Array => deflateRawSync(canonical)
/** Sections of one endpoint; every read of them goes through here. */
export const selectSections = (db: DrizzleD1Database, uid: string) => db.select().from(endpointSections).where(eq(endpointSections.uid, uid))

/** Stored rows as facts, software left out: that is kept as ids (inventory.ts). Everything an agent reports is `claimed`. A section that can't be unpacked is a fact that nobody knows: it is named, so that it can be asked for anew. */
export function readSections(rows: readonly StoredSection[], only?: ReadonlySet<string>): { readonly facts: Facts; readonly damaged: SectionName[] } {
  const { facts, damaged } = readReported(rows, only)
  return only?.has('vulnerabilities') === false ? { facts, damaged } : withMatches({ facts, damaged }, readMatches(rows))
}
/** What the EMS matched joins what the agent reported. Damaged, it makes them unknown: the software list is asked for anew, and matched anew. */
export function withMatches({ facts, damaged }: { readonly facts: Facts; readonly damaged: SectionName[] }, matches: DatedMatches | 'damaged' | null): { readonly facts: Facts; readonly damaged: SectionName[] } {
  const { vulnerabilities: reported, ...others } = facts
  const vulnerabilities = matches === 'damaged' ? undefined : combine(reported, matches)
  return { facts: vulnerabilities === undefined ? others : { ...others, vulnerabilities }, damaged: matches === 'damaged' ? [...damaged, SOFTWARE] : damaged }
}
/** As the agent reported them, and as the EMS was told by others. */
export function readReported(rows: readonly StoredSection[], only?: ReadonlySet<string>): { readonly facts: Facts; readonly damaged: SectionName[] } {
  const facts: { [S in SectionName]?: Fact } = {}
  const damaged: SectionName[] = []
  for (const row of rows) {
    if (row.section === SOFTWARE || row.section === MATCHES || (only !== undefined && !only.has(row.section))) continue
    const section = row.section as SectionName
    const value = unpack(row)
    if (value === null) damaged.push(section)
    else facts[section] = { value, at: row.at, provenance: provenanceOf(section) }
  }
  return { facts: facts as Facts, damaged }
}
/** For whoever only shows them: what is damaged is not there. */
export const readFacts = (rows: readonly StoredSection[], only?: ReadonlySet<string>): Facts => readSections(rows, only).facts
/** All of it, software too. */
export async function loadFacts(db: DrizzleD1Database, uid: string): Promise<Facts> {
  const rows = await selectSections(db, uid)
  const row = rows.find(({ section }) => section === SOFTWARE)
  const ids = row === undefined ? null : readIds(row)
  const facts = readFacts(rows)
  return row === undefined || ids === null ? facts : { ...facts, software: { value: await softwareOf({ db }, ids), at: row.at, provenance: 'claimed' } }
}

/** null: damaged. */
export function unpack({ body }: Pick<StoredSection, 'body'>): Sections[SectionName] | null {
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(inflateRawSync(Uint8Array.from(body))))
    return typeof value === 'object' && value !== null ? value : null
  } catch {
    return null // named by the caller, who has it sent anew
  }
}
