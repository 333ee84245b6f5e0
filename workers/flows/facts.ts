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

/** Stored rows as facts. Everything an agent reports is `claimed`. */
export function readFacts(rows: readonly StoredSection[], only?: ReadonlySet<string>): Facts {
  const facts: { [S in SectionName]?: Fact } = {}
  for (const { section, at, body } of rows) {
    if (only !== undefined && !only.has(section)) continue
    const value = JSON.parse(new TextDecoder().decode(inflateRawSync(Uint8Array.from(body)))) as Sections[SectionName]
    facts[section as SectionName] = { value, at, provenance: 'claimed' }
  }
  return facts as Facts
}
export const loadFacts = async (db: DrizzleD1Database, uid: string): Promise<Facts> => readFacts(await selectSections(db, uid))
