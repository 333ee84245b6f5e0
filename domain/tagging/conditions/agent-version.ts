// The agent's version, compared number by number.
import { z } from 'zod'
import type { Sections } from '../../../protocol/facts.ts'
import { conditionType } from '../condition-type.ts'
import { comparator, dottedVersion, versionHolds, versionMend, versionWanted } from '../dotted-version.ts'

const schema = z.strictObject({ comparator, version: dottedVersion })

export const agentVersion = conditionType<z.infer<typeof schema>>({
  type: 'agent-version', schema, os: ['linux', 'windows', 'macos'], side: 'ems', section: 'agent',
  evaluate({ comparator: asked, version }, fact) {
    const { version: own } = fact.value as Sections['agent']
    const holds = versionHolds(own, asked, version)
    return { value: holds === null ? 'unknown' : holds ? 'true' : 'false', seen: `agent ${own}`, validUntil: null }
  },
  wanted: ({ comparator: asked, version }) => `the agent's version ${versionWanted(asked, version)}`,
  mend: ({ comparator: asked, version }, negate) => versionMend('the agent', asked, version, negate),
})
