// Every type of condition there is. A new type is one file in conditions/ and its line here.
import { z } from 'zod'
import { condition as common, type Condition } from '../../protocol/rules.ts'
import type { ConditionType } from './condition-type.ts'
import { adGroup } from './conditions/ad-group.ts'
import { agentFeature } from './conditions/agent-feature.ts'
import { agentVersion } from './conditions/agent-version.ts'
import { antivirus } from './conditions/antivirus.ts'
import { certificate } from './conditions/certificate.ts'
import { custom } from './conditions/custom.ts'
import { cve } from './conditions/cve.ts'
import { emsManagement } from './conditions/ems-management.ts'
import { file } from './conditions/file.ts'
import { firewallThreat } from './conditions/firewall-threat.ts'
import { ipRange } from './conditions/ip-range.ts'
import { linuxSecurity } from './conditions/linux-security.ts'
import { loggedInDomain } from './conditions/logged-in-domain.ts'
import { macosSecurity } from './conditions/macos-security.ts'
import { onFabric } from './conditions/on-fabric.ts'
import { osVersion } from './conditions/os-version.ts'
import { registryKey } from './conditions/registry-key.ts'
import { runningProcess } from './conditions/running-process.ts'
import { sandboxDetection } from './conditions/sandbox-detection.ts'
import { tagPresent } from './conditions/tag-present.ts'
import { thirdPartyScore } from './conditions/third-party-score.ts'
import { userIdentity } from './conditions/user-identity.ts'
import { vulnerableDevices } from './conditions/vulnerable-devices.ts'
import { windowsSecurity } from './conditions/windows-security.ts'

export const conditionTypes: readonly ConditionType[] = [
  adGroup, agentFeature, agentVersion, antivirus, certificate, custom, cve, emsManagement, file, firewallThreat, ipRange, linuxSecurity, loggedInDomain, macosSecurity,
  onFabric, osVersion, registryKey, runningProcess, sandboxDetection, tagPresent, thirdPartyScore, userIdentity, vulnerableDevices, windowsSecurity,
]
const byName = new Map(conditionTypes.map((type) => [type.type, type]))
export const typeNamed = (name: string): ConditionType | undefined => byName.get(name)

export type ReadCondition =
  | { readonly ok: true; readonly type: ConditionType; readonly params: unknown; readonly negate: boolean; readonly proved: boolean; readonly notOlderThanSeconds: number | null }
  | { readonly ok: false; readonly errors: readonly { path: (string | number)[]; detail: string }[] }

const demands = common.pick({ proved: true, notOlderThanSeconds: true })

/** The members of a type's parameters, as administrators write them. */
export const membersOf = ({ schema }: ConditionType): string[] => Object.keys(z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }).properties ?? {})

/** An unknown member is the mistake, not what it stands in. */
function placesOf(type: ConditionType, issue: z.core.$ZodIssue): { path: (string | number)[]; detail: string }[] {
  const path = issue.path.map((part) => (typeof part === 'number' ? part : String(part)))
  if (issue.code !== 'unrecognized_keys') return [{ path, detail: issue.message }]
  const known = path.length > 0 ? '' : `; ${type.type} takes ${membersOf(type).join(', ') || 'nothing more'}`
  return issue.keys.map((key) => ({ path: [...path, key], detail: `is not known here${known}` }))
}

/** Finds a condition's type and parses its parameters; a type that is not registered is refused, never ignored. */
export function readCondition(condition: Condition): ReadCondition {
  const { type: name, negate, proved = false, notOlderThanSeconds = null, ...params } = condition
  const type = typeNamed(name)
  if (type === undefined) return { ok: false, errors: [{ path: ['type'], detail: `there is no condition type "${name}"; there are ${[...byName.keys()].join(', ')}` }] }
  const demanded = demands.safeParse(condition)
  const parsed = type.schema.safeParse(params)
  const issues = [...demanded.error?.issues ?? [], ...parsed.error?.issues ?? []]
  if (issues.length > 0) return { ok: false, errors: issues.flatMap((issue) => placesOf(type, issue)) }
  // Other facts made it, of several sections and ages: the conditions of the rule set that gives it are the place to demand that.
  if (type.side === 'tags' && (proved || notOlderThanSeconds !== null)) return { ok: false, errors: [{ path: [proved ? 'proved' : 'notOlderThanSeconds'], detail: 'a tag is no fact: demand this of the conditions that give it' }] }
  if (type.side === 'ems' && type.ageless !== undefined && notOlderThanSeconds !== null) return { ok: false, errors: [{ path: ['notOlderThanSeconds'], detail: type.ageless }] }
  return { ok: true, type, params: parsed.data, negate, proved, notOlderThanSeconds }
}
