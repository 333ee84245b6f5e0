// The endpoint is managed by this EMS: it is registered (nothing else is evaluated) and its agent has reported itself.
import { z } from 'zod'
import type { Sections } from '../../../protocol/facts.ts'
import { conditionType } from '../condition-type.ts'

export const emsManagement = conditionType<Record<string, never>>({
  type: 'ems-management', schema: z.strictObject({}), os: ['linux', 'windows', 'macos'], side: 'ems', section: 'agent',
  evaluate: (_, fact) => ({ value: 'true', seen: `managed, agent ${(fact.value as Sections['agent']).version}`, validUntil: null }),
  wanted: () => 'managed by this EMS',
  mend: (_, negate) => (negate ? 'Deregister the endpoint.' : 'Enrol the endpoint with an invitation.'),
})
