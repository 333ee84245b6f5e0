// The device has one of these vulnerabilities, as reported or as the EMS matched it. True means vulnerable: rules for good devices negate it.
import { z } from 'zod'
import type { Sections } from '../../../protocol/facts.ts'
import { conditionType } from '../condition-type.ts'
import { ageOf } from '../freshness.ts'

const schema = z.strictObject({
  ids: z.array(z.string().regex(/^[A-Za-z0-9][A-Za-z0-9:._-]{2,63}$/, 'an id like CVE-2026-12345')).min(1).max(256),
  /** A scan older than this says nothing any more. */
  scannedWithinSeconds: z.number().int().min(60).max(31_536_000).optional(),
})
/** As many as the section holds: what is beyond them nobody sees. */
const MOST_FOUND = 5_000
const said = (ids: readonly string[]) => ids.slice(0, 4).join(', ') + (ids.length > 4 ? ` or ${ids.length - 4} more` : '')

export const cve = conditionType<z.infer<typeof schema>>({
  type: 'cve', schema, os: ['linux', 'windows', 'macos'], side: 'ems', section: 'vulnerabilities',
  evaluate({ ids, scannedWithinSeconds: seconds }, fact, { now }) {
    const { found, scannedAt, scanner } = fact.value as Sections['vulnerabilities']
    const fresh = seconds === undefined ? null : ageOf(scannedAt, fact.at, seconds * 1000, now)
    if (fresh !== null && fresh.ends === null) return { value: 'unknown', seen: `last scan too old (${scanner})`, validUntil: null }
    const validUntil = fresh?.ends ?? null
    const asked = new Set(ids.map((id) => id.toUpperCase()))
    const own = [...new Set(found.map(({ id }) => id).filter((id) => asked.has(id.toUpperCase())))]
    if (own.length > 0) return { value: 'true', seen: `has ${said(own)}`, validUntil }
    if (found.length >= MOST_FOUND || found.some(({ id }) => id.startsWith('not-looked-at:'))) return { value: 'unknown', seen: 'not everything has been looked at', validUntil }
    return { value: 'false', seen: `not found (${scanner})`, validUntil }
  },
  wanted: ({ ids }) => `the vulnerability ${said(ids)}`.slice(0, 200),
  mend: ({ ids }, negate) => (negate ? `Install the updates that mend ${said(ids)}, then scan again.`.slice(0, 215) : 'Nothing to mend: this marks vulnerable devices.'),
})
