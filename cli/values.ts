// Values of words and options as people type them, read into what the contract takes.
import { z } from 'zod'
import type { Option } from './command.ts'

/** A switch. */
export const flag = (says: string) => ({ says, schema: z.boolean().default(false) }) satisfies Option
export const yes = flag('do not ask; needed when standard input is no terminal')

export const yaml = flag('as YAML, which it is unless --json is given')
export const force = flag('overwrite FILE')
/** Where a file is written; standard output unless named. */
export const target = { says: 'where to write it; standard output unless named', schema: z.string().min(1).optional() }

export const wholeNumber = z.string().regex(/^\d{1,15}$/, 'must be a whole number').transform(Number)
export const yesOrNo = z.enum(['yes', 'no'], { error: 'must be yes or no' }).transform((word) => word === 'yes')

const secondsIn = { s: 1, m: 60, h: 3600, d: 86_400 } as const
/** `90s`, `30m`, `24h` or `7d`, in seconds. */
export const duration = z.string().regex(/^\d{1,9}[smhd]$/, 'must be a number with s, m, h or d, like 24h')
  .transform((text) => Number(text.slice(0, -1)) * secondsIn[text.slice(-1) as keyof typeof secondsIn])

/** A date (its first instant in UTC) or an instant with its offset, in ms. */
export const date = z.union([z.iso.date(), z.iso.datetime({ offset: true })], { error: 'must be a date like 2027-12-31 or 2027-12-31T18:00:00Z' }).transform((text) => Date.parse(text))

/** Words between commas, each by its own schema. */
export const listOf = <S extends z.ZodType<unknown, string>>(item: S) => z.string().transform((text) => text.split(',').map((word) => word.trim())).pipe(z.array(item))
