// The operating system's version, compared number by number. The family is the system under which the rule is written. What is no version is unknown.
import { z } from 'zod'
import type { Sections } from '../../../protocol/facts.ts'
import { line } from '../../../protocol/text.ts'
import { conditionType } from '../condition-type.ts'

const dotted = /^\d{1,9}(\.\d{1,9}){0,5}$/
const comparators = {
  '=': { holds: (order: number) => order === 0, is: 'is', mend: (version: string) => `version ${version}` },
  '>=': { holds: (order: number) => order >= 0, is: 'is at least', mend: (version: string) => `version ${version} or later` },
  '>': { holds: (order: number) => order > 0, is: 'is later than', mend: (version: string) => `a version later than ${version}` },
  '<=': { holds: (order: number) => order <= 0, is: 'is at most', mend: (version: string) => `version ${version} or earlier` },
  '<': { holds: (order: number) => order < 0, is: 'is earlier than', mend: (version: string) => `a version earlier than ${version}` },
} as const
type Comparator = keyof typeof comparators
const opposite = { '>=': '<', '>': '<=', '<=': '>', '<': '>=' } as const

const schema = z.strictObject({
  comparator: z.enum(Object.keys(comparators) as [Comparator]),
  version: z.string().regex(dotted, 'numbers with dots, like 12.8'),
  /** Only this product: `Debian GNU/Linux`, `Windows 11`. Compared without case, as a prefix. */
  name: line(128).optional(),
})

/** Compares dotted numbers: -1, 0, 1; null when one is none. A missing part counts as 0. */
export function compareVersions(a: string, b: string): number | null {
  // The whole text or nothing: `13rc1` is before 13, and a number cut short is another number.
  if (!dotted.test(a) || !dotted.test(b)) return null
  const [left, right] = [a.split('.').map(Number), b.split('.').map(Number)]
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0)
    if (difference !== 0) return Math.sign(difference)
  }
  return 0
}

export const osVersion = conditionType<z.infer<typeof schema>>({
  type: 'os-version', schema, os: ['linux', 'windows', 'macos'], side: 'ems', section: 'os',
  evaluate({ comparator, version, name }, fact) {
    const os = fact.value as Sections['os']
    const seen = `${os.name} ${os.version}`.trim()
    if (name !== undefined && !os.name.toLowerCase().startsWith(name.toLowerCase())) return { value: 'false', seen, validUntil: null }
    const order = compareVersions(os.version, version)
    return { value: order === null ? 'unknown' : comparators[comparator].holds(order) ? 'true' : 'false', seen, validUntil: null }
  },
  wanted: ({ comparator, version, name }) => `${name ?? 'the system'} version ${comparators[comparator].is} ${version}`,
  mend({ comparator, version, name }, negate) {
    const system = name ?? 'the operating system'
    if (negate && comparator === '=') return `Install another version of ${system} than ${version}.`
    const asked = negate && comparator !== '=' ? opposite[comparator] : comparator
    return asked.startsWith('>') ? `Update ${system} to ${comparators[asked].mend(version)}.` : `Install ${comparators[asked].mend(version)} of ${system}.`
  },
})
