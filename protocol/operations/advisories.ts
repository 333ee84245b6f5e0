// Operations of administrators on advisories and on what follows from them: import, who has a package, who is affected, what an endpoint has.
import { z } from 'zod'
import { advisory, advisoryId, advisorySource, MOST_IMPORT_BYTES, MOST_RECORDS, packageHolder, vulnerability } from '../advisory.ts'
import { uid } from '../ids.ts'
import { operation } from '../operation.ts'
import { instant, line } from '../text.ts'

const caller = 'administrator' as const
const page = { after: z.string().max(128).optional(), limit: z.coerce.number().int().min(1).max(200).default(50) }

export const importAdvisories = operation({
  id: 'import-advisories', method: 'POST', path: '/api/v1/admin/advisories/import', caller, maxBodyBytes: MOST_IMPORT_BYTES,
  summary: 'Take a page of advisories, OSV or NVD records as published. Idempotent: what is known with the same date is left alone. Malformed records are refused one by one.',
  body: z.strictObject({
    source: advisorySource, records: z.array(z.unknown()).max(MOST_RECORDS),
    /** With this page the source has brought all that it knows: from now on what it does not name counts as looked at. */
    whole: z.boolean().default(false),
  }),
  reply: z.object({
    taken: z.number().int(), unchanged: z.number().int(),
    /** They name no package that is matched here, and rate no CVE. */
    ignored: z.number().int(),
    refused: z.array(z.object({ index: z.number().int(), id: z.string().nullable(), reason: z.string() })),
    /** Taken, but they bound a range by what is no version: more counts as affected than may be. */
    doubted: z.array(z.object({ index: z.number().int(), id: z.string().nullable(), reason: z.string() })),
  }),
})
export const listAdvisories = operation({
  id: 'list-advisories', method: 'GET', path: '/api/v1/admin/advisories', caller, summary: 'Advisories by id; `text`: those of that id or CVE, or that name that package.',
  query: z.object({ ...page, text: z.string().max(256).optional() }), reply: z.object({ items: z.array(advisory), next: z.string().nullable() }),
})
export const readVulnerabilityState = operation({
  id: 'read-vulnerability-state', method: 'GET', path: '/api/v1/admin/vulnerabilities', caller, summary: 'How much is known and how old it is.',
  reply: z.object({
    advisories: z.number().int(), packages: z.number().int(), affectedPackages: z.number().int(),
    /** By ecosystem and source, and when the source last brought all that it knows; null: it never has. */
    feeds: z.array(z.object({ ecosystem: z.string(), source: z.string(), asOf: instant.nullable() })),
    /** Imported pages that are not matched yet, and whether endpoints are still to be worked out anew. */
    unmatchedPages: z.number().int(), settled: z.boolean(),
  }),
})

const search = { after: z.number().int().min(0).default(0), limit: z.number().int().min(1).max(200).default(50) }
const holders = z.object({ items: z.array(packageHolder), next: z.number().int().nullable() })
/** Questions, but by POST: a package's name has any characters, and none of them belongs into an address or a proxy's log. */
export const findPackage = operation({
  id: 'find-package', method: 'POST', path: '/api/v1/admin/packages/find', caller, summary: 'Who has a package: registered endpoints, without reading each. Hand back `next` as `after`.',
  body: z.strictObject({ name: line(256), ecosystem: line(128).optional(), version: line(128).optional(), ...search }), reply: holders,
})
export const findAffected = operation({
  id: 'find-affected', method: 'POST', path: '/api/v1/admin/advisories/find-affected', caller, summary: 'Who is affected by an advisory or a CVE, and by which package. Hand back `next` as `after`.',
  body: z.strictObject({ advisory: advisoryId, ...search }), reply: holders,
})
export const readVulnerabilities = operation({
  id: 'read-endpoint-vulnerabilities', method: 'GET', path: '/api/v1/admin/endpoints/{uid}/vulnerabilities', caller,
  summary: 'What the EMS matched for an endpoint\'s software: each CVE with its severity, what is installed and what mends it. The worst first, 5,000 at most.',
  params: z.object({ uid }),
  reply: z.object({
    items: z.array(vulnerability), total: z.number().int(),
    /** Ecosystems of its packages that all advisories are known of, and those that nobody looked at. null: no software list has been reported. */
    covered: z.array(z.string()).nullable(), uncovered: z.array(z.string()).nullable(), at: instant.nullable(),
  }),
})
