// A key or a value of the Windows registry. Asked on the device; what can't be looked at is unknown.
import { z } from 'zod'
import { line, lineOrEmpty, unprintableAt } from '../../../protocol/text.ts'
import { conditionType } from '../condition-type.ts'
import { nothingToWatch } from '../device.ts'

const comparators = { '=': 'is', 'contains': 'contains', '>=': 'is at least', '>': 'is above', '<=': 'is at most', '<': 'is below' } as const
type Comparator = keyof typeof comparators
const number = /^\d{1,20}$/

const schema = z.strictObject({
  key: line(512).regex(/^(HKEY_LOCAL_MACHINE|HKEY_CURRENT_USER|HKEY_USERS|HKEY_CLASSES_ROOT)\\[^\\]/, 'begins with a hive, like HKEY_LOCAL_MACHINE\\SOFTWARE\\Example'),
  /** Absent: the key itself is asked for. Empty: its default value. */
  name: lineOrEmpty(255).optional(),
  /** Absent: it exists. */
  comparator: z.enum(Object.keys(comparators) as [Comparator]).optional(),
  /** Several strings are joined by line feeds. */
  value: z.string().max(1024).refine((value) => unprintableAt(value, '\n') === null, 'control characters are not allowed').optional(),
}).superRefine(({ name, comparator, value }, context) => {
  const issue = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message })
  if (comparator !== undefined && name === undefined) issue('name', 'name the value to compare')
  if ((comparator === undefined) !== (value === undefined)) issue(value === undefined ? 'value' : 'comparator', 'a comparator and a value go together')
  if (comparator !== undefined && comparator !== '=' && comparator !== 'contains' && !number.test(value ?? '')) issue('value', 'is compared as a number, and is none')
})
type Params = z.infer<typeof schema>

/** null: they can't be compared so. */
function compares(own: string, comparator: Comparator, wanted: string): boolean | null {
  if (comparator === '=') return own === wanted
  if (comparator === 'contains') return own.includes(wanted)
  if (!number.test(own)) return null
  const [left, right] = [BigInt(own), BigInt(wanted)]
  return comparator === '>=' ? left >= right : comparator === '>' ? left > right : comparator === '<=' ? left <= right : left < right
}
const short = (value = ''): string => `"${value.replaceAll('\n', ', ').slice(0, 30).toWellFormed()}"`
const place = ({ key, name }: Params): string => (name === undefined ? key : `${key}\\${name === '' ? '(Default)' : name}`).slice(0, 150)

export const registryKey = conditionType<Params>({
  type: 'registry-key', schema, os: ['windows'], side: 'agent',
  async observe({ key, name, comparator, value }, device) {
    const found = await device.registryValue?.(key, name ?? null)
    if (found === undefined) return { value: 'unknown', seen: 'this agent can not look at the registry' }
    if (found === 'unreadable') return { value: 'unknown', seen: 'can not be read' }
    if (!found.exists) return { value: 'false', seen: `the ${found.missing} does not exist` }
    if (comparator === undefined) return { value: 'true', seen: 'exists' }
    const holds = compares(found.value, comparator, value ?? '')
    return { value: holds === null ? 'unknown' : holds ? 'true' : 'false', seen: `"${found.value.slice(0, 200)}"${holds === null ? ' is no number' : ''}` }
  },
  watch: () => nothingToWatch,
  wanted: (params) => `registry ${place(params)} ${params.comparator === undefined ? 'exists' : `${comparators[params.comparator]} ${short(params.value)}`}`,
  mend: (params, negate) => (negate
    ? `${params.comparator === undefined ? 'Remove' : 'Change'} ${place(params)} in the registry.`
    : params.comparator === undefined ? `Create ${place(params)} in the registry.` : `Set ${place(params)} so that it ${comparators[params.comparator]} ${short(params.value)}.`),
})
