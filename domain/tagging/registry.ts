// Every type of condition there is. A new type is one file in conditions/ and its line here.
import type { Condition } from '../../protocol/rules.ts'
import type { ConditionType } from './condition-type.ts'
import { emsManagement } from './conditions/ems-management.ts'
import { file } from './conditions/file.ts'
import { ipRange } from './conditions/ip-range.ts'
import { osVersion } from './conditions/os-version.ts'
import { runningProcess } from './conditions/running-process.ts'
import { vulnerableDevices } from './conditions/vulnerable-devices.ts'

export const conditionTypes: readonly ConditionType[] = [emsManagement, file, ipRange, osVersion, runningProcess, vulnerableDevices]
const byName = new Map(conditionTypes.map((type) => [type.type, type]))
export const typeNamed = (name: string): ConditionType | undefined => byName.get(name)

export type ReadCondition =
  | { readonly ok: true; readonly type: ConditionType; readonly params: unknown; readonly negate: boolean }
  | { readonly ok: false; readonly errors: readonly { path: (string | number)[]; detail: string }[] }

/** Finds a condition's type and parses its parameters; a type that is not registered is refused, never ignored. */
export function readCondition(condition: Condition): ReadCondition {
  const { type: name, negate, ...params } = condition
  const type = typeNamed(name)
  if (type === undefined) return { ok: false, errors: [{ path: ['type'], detail: `there is no condition type "${name}"` }] }
  const parsed = type.schema.safeParse(params)
  if (parsed.success) return { ok: true, type, params: parsed.data, negate }
  return { ok: false, errors: parsed.error.issues.map((issue) => ({ path: issue.path.map((part) => (typeof part === 'number' ? part : String(part))), detail: issue.message })) }
}
