// Advisories as they are published (OSV, and severities of CVEs as NVD gives them), and what the EMS says of them.
import { z } from 'zod'
import { severity } from './facts.ts'
import { uid } from './ids.ts'
import { instant, line } from './text.ts'

/** An id of any advisory database: `CVE-2024-1234`, `GHSA-…`, `PYSEC-2024-1`, `DSA-5532-1`. */
export const advisoryId = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._:+~-]{2,63}$/, 'must be an advisory id, like CVE-2024-1234')
/** Ids of the same in other databases; real records have slips there, so they are looked through, not refused. */
const ids = z.array(z.string().max(256)).max(2_000).optional()
const version = line(256)
const vector = z.object({ type: line(32), score: line(512) })
const severities = z.array(vector).max(16).optional()
/** RFC 3339 in UTC. */
const timestamp = z.iso.datetime()

/** One event of a range: exactly one of the four. */
const event = z.object({ introduced: version.optional(), fixed: version.optional(), last_affected: version.optional(), limit: version.optional() })
  .refine((each) => Object.values(each).filter((value) => value !== undefined).length === 1, 'an event says exactly one of introduced, fixed, last_affected and limit')
const range = z.object({ type: line(32), events: z.array(event).min(1).max(5_000) })
  .refine(({ events }) => events.some(({ introduced }) => introduced !== undefined), 'a range needs an introduced event')
  .refine(({ events }) => !(events.some(({ fixed }) => fixed !== undefined) && events.some((each) => each.last_affected !== undefined)), 'a range has fixed events or last_affected events, not both')
/** What databases say beside the format; only a severity is read, and only where it is text. */
const beside = z.object({ severity: z.unknown(), urgency: z.unknown() }).partial().optional().catch(undefined)
const affected = z.object({
  package: z.object({ ecosystem: line(256), name: line(256) }).optional(),
  severity: severities, ranges: z.array(range).max(2_000).optional(), versions: z.array(version).max(50_000).optional(),
  ecosystem_specific: beside, database_specific: beside,
})

/** A record as published (OSV schema 1.7 and before); fields that are not read are dropped. */
export const osvRecord = z.object({
  id: advisoryId, modified: timestamp, published: timestamp.optional(), withdrawn: timestamp.optional(),
  aliases: ids, upstream: ids, summary: z.string().max(4_096).optional(),
  severity: severities, affected: z.array(affected).max(5_000).optional(), database_specific: beside,
})
export type OsvRecord = z.infer<typeof osvRecord>

/** An item of NVD's API 2.0: only the id, its date and its vectors are read. */
const metric = z.array(z.object({ cvssData: z.object({ vectorString: line(512) }) })).max(32).optional()
export const nvdRecord = z.object({
  cve: z.object({
    id: advisoryId, lastModified: z.iso.datetime({ local: true }),
    metrics: z.object({ cvssMetricV2: metric, cvssMetricV30: metric, cvssMetricV31: metric, cvssMetricV40: metric }).partial().optional(),
  }),
})
export type NvdRecord = z.infer<typeof nvdRecord>

/** Where advisories come from: a name that an administrator gives a feed. */
export const advisorySource = z.string().regex(/^[a-z0-9][a-z0-9._-]{0,62}$/, 'lower-case letters, digits and ._- only, 63 at most')

export const advisory = z.object({
  id: z.string(), source: z.string(), severity, summary: z.string(), aliases: z.array(z.string()), modifiedAt: instant, withdrawn: z.boolean(),
})
export type Advisory = z.infer<typeof advisory>

/** One vulnerability of one installed package. */
export const vulnerability = z.object({
  /** The CVE where there is one, else the advisory's own id. */
  id: z.string(), advisory: z.string(), severity, ecosystem: z.string(), package: z.string(), installed: z.string(),
  /** The first version without it; null: none is known. */
  fixed: z.string().nullable(),
})
export type Vulnerability = z.infer<typeof vulnerability>

/** An endpoint that has what was asked for, and which of it. */
export const packageHolder = z.object({ uid, hostName: z.string(), packages: z.array(z.object({ ecosystem: z.string(), name: z.string(), version: z.string() })) })
export type PackageHolder = z.infer<typeof packageHolder>

/** What one page of an import takes. */
export const MOST_RECORDS = 200
export const MOST_IMPORT_BYTES = 1024 * 1024
