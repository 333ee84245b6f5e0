// The endpoint is managed by this EMS: it is registered (nothing else is evaluated) and its agent has reported itself.
import { z } from 'zod'
import type { Sections } from '../../../protocol/facts.ts'
import { conditionType } from '../condition-type.ts'

export const emsManagement = conditionType<Record<string, never>>({
  type: 'ems-management', schema: z.strictObject({}), os: ['linux', 'windows', 'macos'], side: 'ems', section: 'agent',
  // Whoever reports has proved by its certificate that it is registered; only the version is its own word.
  evaluate: (_, fact) => ({ value: 'true', seen: `managed, agent ${(fact.value as Sections['agent']).version}`, validUntil: null, provenance: 'proved' }),
  wanted: () => 'managed by this EMS',
  mend: (_, negate) => (negate ? 'Deregister the endpoint.' : 'Enrol the endpoint with an invitation.'),
})
