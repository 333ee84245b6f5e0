// A feature of the agent is switched on.
import { z } from 'zod'
import { featureName, type Sections } from '../../../protocol/facts.ts'
import { conditionType } from '../condition-type.ts'

const schema = z.strictObject({ feature: featureName })

export const agentFeature = conditionType<z.infer<typeof schema>>({
  type: 'agent-feature', schema, os: ['linux', 'windows', 'macos'], side: 'ems', section: 'agent',
  evaluate({ feature }, fact) {
    const { features } = fact.value as Sections['agent']
    if (features === undefined) return { value: 'unknown', seen: 'the agent does not tell its features', validUntil: null }
    return { value: features.includes(feature) ? 'true' : 'false', seen: features.length === 0 ? 'no feature is on' : `on: ${features.slice(0, 8).join(', ')}`, validUntil: null }
  },
  wanted: ({ feature }) => `the agent's feature "${feature}" is on`,
  mend: ({ feature }, negate) => `Switch "${feature}" ${negate ? 'off' : 'on'} in the profile.`,
})
