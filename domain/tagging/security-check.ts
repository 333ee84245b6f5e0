// Types that ask whether one protection of one system is on: each names its checks; what was not looked at is unknown.
import { z } from 'zod'
import type { OsType, Sections, State } from '../../protocol/facts.ts'
import { conditionType, type ConditionType } from './condition-type.ts'

type Security = Sections['security']
export interface SecurityCheck {
  /** `undefined`: was not looked at. */
  readonly read: (security: Security) => State | undefined
  /** What is on: `the disk of the system is encrypted by BitLocker`. */
  readonly holds: string
  readonly turnOn: string
  readonly turnOff: string
}

/** Several of which each must be on. */
export const every = (states: readonly (State | undefined)[]): State =>
  (states.includes('off') ? 'off' : states.length === 0 || states.some((each) => each !== 'on') ? 'unknown' : 'on')
/** Several of which one is enough. */
export const some = (states: readonly (State | undefined)[]): State =>
  (states.includes('on') ? 'on' : states.length === 0 || states.some((each) => each !== 'off') ? 'unknown' : 'off')

export function securityType<C extends string>(type: string, os: OsType, checks: Readonly<Record<C, SecurityCheck>>): ConditionType {
  const schema = z.strictObject({ check: z.enum(Object.keys(checks) as [C, ...C[]]) })
  return conditionType<{ readonly check: C }>({
    type, schema: schema as unknown as z.ZodType<{ readonly check: C }>, os: [os], side: 'ems', section: 'security',
    evaluate({ check }, fact) {
      const state = checks[check].read(fact.value as Security) ?? 'unknown'
      return { value: state === 'on' ? 'true' : state === 'off' ? 'false' : 'unknown', seen: state === 'unknown' ? 'can not be seen' : state, validUntil: null }
    },
    wanted: ({ check }) => checks[check].holds,
    mend: ({ check }, negate) => (negate ? checks[check].turnOff : checks[check].turnOn),
  })
}
