// The facts of an endpoint as stored: deflated canonical JSON by section.
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import { eq } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import type { Fact, Facts, SectionName, Sections } from '../../protocol/facts.ts'
import { endpointSections } from '../../schema/endpoint.ts'

export interface StoredSection { readonly section: string; readonly hash: string; readonly at: number; readonly body: Uint8Array }

export const packSection = (canonical: string): Uint8Array => deflateRawSync(canonical)
/** Sections of one endpoint; every read of them goes through here. */
export const selectSections = (db: DrizzleD1Database, uid: string) => db.select().from(endpointSections).where(eq(endpointSections.uid, uid))

/** Stored rows as facts; everything an agent reports is `claimed`. A section that can't be unpacked is a fact that nobody knows: it is named, so that it can be asked for anew. */
export function readSections(rows: readonly StoredSection[], only?: ReadonlySet<string>): { readonly facts: Facts; readonly damaged: SectionName[] } {
  const facts: { [S in SectionName]?: Fact } = {}
  const damaged: SectionName[] = []
  for (const row of rows) {
    if (only !== undefined && !only.has(row.section)) continue
    const section = row.section as SectionName
    const value = unpack(row)
    if (value === null) damaged.push(section)
    else facts[section] = { value, at: row.at, provenance: 'claimed' }
  }
  return { facts: facts as Facts, damaged }
}
/** For whoever only shows them: what is damaged is not there. */
export const readFacts = (rows: readonly StoredSection[], only?: ReadonlySet<string>): Facts => readSections(rows, only).facts
export const loadFacts = async (db: DrizzleD1Database, uid: string): Promise<Facts> => readFacts(await selectSections(db, uid))

function unpack({ body }: StoredSection): Sections[SectionName] | null {
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(inflateRawSync(Uint8Array.from(body))))
    return typeof value === 'object' && value !== null ? value as Sections[SectionName] : null
  } catch {
    return null // damaged: named to the caller, who has it sent anew
  }
}
