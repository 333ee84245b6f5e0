// The device has a vulnerability of at least this severity, as reported. True means vulnerable: rules for good devices negate it.
import { z } from 'zod'
import { severity, type Sections } from '../../../protocol/facts.ts'
import { conditionType } from '../condition-type.ts'

const schema = z.strictObject({
  severity,
  /** A scan older than this says nothing any more. */
  scannedWithinSeconds: z.number().int().min(60).max(31_536_000).optional(),
})
const order = severity.options

export const vulnerableDevices = conditionType<z.infer<typeof schema>>({
  type: 'vulnerable-devices', schema, os: ['linux', 'windows', 'macos'], side: 'ems', section: 'vulnerabilities',
  evaluate({ severity: least, scannedWithinSeconds }, fact, { now }) {
    const { found, scannedAt, scanner } = fact.value as Sections['vulnerabilities']
    // A scan can't be younger than its report: a date in the future, by lie or by wrong clock, would never grow old.
    const ends = scannedWithinSeconds === undefined ? null : Math.min(scannedAt, fact.at) + scannedWithinSeconds * 1000
    if (ends !== null && ends <= now) return { value: 'unknown', seen: `last scan too old (${scanner})`, validUntil: null }
    const worst = found.filter((each) => order.indexOf(each.severity) >= order.indexOf(least))
    if (worst.length > 0) return { value: 'true', seen: `${worst.length} found: ${worst.slice(0, 3).map(({ id }) => id).join(', ')}${worst.length > 3 ? ', …' : ''}`, validUntil: ends }
    // Findings that nobody has rated may be of any severity: no clean bill while there are some.
    const unrated = found.filter((each) => each.severity === 'unrated').length
    if (unrated > 0) return { value: 'unknown', seen: `${unrated} found without a severity`, validUntil: ends }
    return { value: 'false', seen: `none found (${scanner})`, validUntil: ends }
  },
  wanted: ({ severity: least, scannedWithinSeconds }) =>
    `a vulnerability of severity ${least} or above${scannedWithinSeconds === undefined ? '' : `, by a scan of the last ${scannedWithinSeconds} s`}`,
  mend: ({ severity: least }, negate) => (negate
    ? `Install updates until nothing of severity ${least} or above is left, then scan again.`
    : 'Nothing to mend: this marks vulnerable devices.'),
})
