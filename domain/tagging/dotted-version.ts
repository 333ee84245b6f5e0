// Versions of systems and agents: numbers with dots, compared number by number. What is no such version is not compared.
import { z } from 'zod'

const dotted = /^\d{1,9}(\.\d{1,9}){0,5}$/
const comparators = {
  '=': { holds: (order: number) => order === 0, is: 'is', mend: (version: string) => `version ${version}` },
  '>=': { holds: (order: number) => order >= 0, is: 'is at least', mend: (version: string) => `version ${version} or later` },
  '>': { holds: (order: number) => order > 0, is: 'is later than', mend: (version: string) => `a version later than ${version}` },
  '<=': { holds: (order: number) => order <= 0, is: 'is at most', mend: (version: string) => `version ${version} or earlier` },
  '<': { holds: (order: number) => order < 0, is: 'is earlier than', mend: (version: string) => `a version earlier than ${version}` },
} as const
export type Comparator = keyof typeof comparators
const opposite = { '>=': '<', '>': '<=', '<=': '>', '<': '>=' } as const
export const comparator = z.enum(Object.keys(comparators) as [Comparator])
export const dottedVersion = z.string().regex(dotted, 'numbers with dots, like 12.8')

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

/** Whether a version is as wanted; null: it is no version. */
export function versionHolds(version: string, asked: Comparator, wanted: string): boolean | null {
  const order = compareVersions(version, wanted)
  return order === null ? null : comparators[asked].holds(order)
}
/** `is at least 12.8`. */
export const versionWanted = (asked: Comparator, version: string): string => `${comparators[asked].is} ${version}`
/** What to install of something, so that it holds, or with `negate` no longer. */
export function versionMend(what: string, asked: Comparator, version: string, negate: boolean): string {
  if (negate && asked === '=') return `Install another version of ${what} than ${version}.`
  const then = negate && asked !== '=' ? opposite[asked] : asked
  return then.startsWith('>') ? `Update ${what} to ${comparators[then].mend(version)}.` : `Install ${comparators[then].mend(version)} of ${what}.`
}
