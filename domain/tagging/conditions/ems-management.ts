// The endpoint is managed by this EMS: it is registered and its agent has reported itself.
import { z } from 'zod'
import type { Sections } from '../../../protocol/facts.ts'
import { conditionType } from '../condition-type.ts'

export const emsManagement = conditionType<Record<string, never>>({
  type: 'ems-management', schema: z.strictObject({}), os: ['linux', 'windows', 'macos'], side: 'ems', section: 'agent',
  evaluate: (_, fact) => ({ value: 'true', seen: `agent ${(fact.value as Sections['agent']).version}`, validUntil: null }),
  wanted: () => 'the endpoint is managed by this EMS',
  mend: () => 'Enrol the endpoint with an invitation.',
})
