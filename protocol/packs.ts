// Rule packs as they are written, exchanged and imported.
import { z } from 'zod'
import { uuid } from './ids.ts'
import { ruleSetInput, tagName } from './rules.ts'
import { instant, line, lineOrEmpty } from './text.ts'

/** Numbers between dots, compared one by one: `2026.11.25` is newer than `2026.9.30`. */
// As a YAML number 1.10 would be 1.1.
export const packVersion = z.string({ error: 'must be text: put it in quotes, like "1.10"' }).regex(/^\d{1,9}(\.\d{1,9}){0,5}$/, 'must be numbers between dots, like 1.4.0 or 2026.11.25')
/** An instant with its offset, or a date, as text: packs are written by people. */
const issuedAt = z.union([z.iso.datetime({ offset: true }), z.iso.date()], { error: 'must be a date like 2026-11-25 or 2026-11-25T18:00:00Z' })

export const packInput = z.strictObject({
  name: line(128),
  version: packVersion,
  issuedAt,
  description: lineOrEmpty(1024).default(''),
  /** Every tag that its rule sets give. */
  tags: z.array(z.strictObject({ name: tagName, type: z.enum(['outbreak', 'zero-trust']).default('outbreak'), description: lineOrEmpty(512).default('') })).min(1).max(32),
  ruleSets: z.array(ruleSetInput).min(1).max(64),
})
export type PackInput = z.infer<typeof packInput>

export const pack = z.object({
  id: uuid, name: z.string(), version: packVersion, issuedAt: instant, description: z.string(), importedAt: instant,
  ruleSets: z.number().int(), tags: z.array(tagName),
})
export type Pack = z.infer<typeof pack>
