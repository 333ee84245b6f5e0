// The operating system's version, compared number by number.
import { z } from 'zod'
import type { Sections } from '../../../protocol/facts.ts'
import { line } from '../../../protocol/text.ts'
import { conditionType } from '../condition-type.ts'

const comparators = { '=': 'is', '>=': 'is at least', '>': 'is later than', '<=': 'is at most', '<': 'is earlier than' } as const
const schema = z.strictObject({
  comparator: z.enum(Object.keys(comparators) as [keyof typeof comparators]),
  version: z.string().regex(/^\d{1,9}(\.\d{1,9}){0,5}$/, 'numbers with dots, like 12.8'),
  /** Only this product: `Debian GNU/Linux`, `Windows 11`. Compared without case, as a prefix. */
  name: line(128).optional(),
})

/** Compares dotted numbers; null when one is none. A missing part counts as 0. */
export function compareVersions(a: string, b: string): number | null {
  const read = (text: string) => /^\d{1,9}(\.\d{1,9})*/.exec(text)?.[0].split('.').map(Number) ?? null
  const left = read(a)
  const right = read(b)
  if (left === null || right === null) return null
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0)
    if (difference !== 0) return Math.sign(difference)
  }
  return 0
}
const holds = { '=': (c: number) => c === 0, '>=': (c: number) => c >= 0, '>': (c: number) => c > 0, '<=': (c: number) => c <= 0, '<': (c: number) => c < 0 }

export const osVersion = conditionType<z.infer<typeof schema>>({
  type: 'os-version', schema, os: ['linux', 'windows', 'macos'], side: 'ems', section: 'os',
  evaluate({ comparator, version, name }, fact) {
    const os = fact.value as Sections['os']
    const seen = `${os.name} ${os.version}`.trim()
    if (name !== undefined && !os.name.toLowerCase().startsWith(name.toLowerCase())) return { value: 'false', seen, validUntil: null }
    const compared = compareVersions(os.version, version)
    return { value: compared === null ? 'unknown' : holds[comparator](compared) ? 'true' : 'false', seen, validUntil: null }
  },
  wanted: ({ comparator, version, name }) => `${name ?? 'the system'} version ${comparators[comparator]} ${version}`,
  mend: ({ version }) => `Update the operating system (${version} is asked for).`,
})
