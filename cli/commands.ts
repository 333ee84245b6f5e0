// Every command there is. Parsing, help and the tests of completeness go by this table.
import { advisoryCommands } from './advisories.ts'
import { authorityCommands } from './authorities.ts'
import type { Command } from './command.ts'
import { endpointCommands } from './endpoints.ts'
import { explainCommands } from './explain.ts'
import { gatewayCommands } from './gateways.ts'
import { gatewaySightCommands } from './gateway-sight.ts'
import { healthCommands } from './health.ts'
import { identityProviderCommands } from './identity-providers.ts'
import { invitationCommands } from './invitations.ts'
import { licenceCommands } from './licence.ts'
import { packCommands } from './packs.ts'
import { policyCommands } from './policies.ts'
import { profileCommands } from './profiles.ts'
import { reEvaluationCommands } from './re-evaluation.ts'
import { ruleSetCommands } from './rule-sets.ts'
import { signalCommands } from './signals.ts'
import { tagCommands } from './tags.ts'

export const commands: readonly Command[] = [
  ...explainCommands, ...endpointCommands, ...invitationCommands, ...ruleSetCommands, ...packCommands, ...reEvaluationCommands, ...tagCommands, ...signalCommands, ...profileCommands, ...policyCommands, ...identityProviderCommands, ...licenceCommands,
  ...gatewayCommands, ...gatewaySightCommands, ...authorityCommands, ...advisoryCommands, ...healthCommands,
]
