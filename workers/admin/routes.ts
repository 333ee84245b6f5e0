// The routes of administrators.
import type { Route } from '../http/mount.ts'
import { advisoryRoutes } from './advisories.ts'
import { authorityRoutes } from './authorities.ts'
import { endpointRoutes } from './endpoints.ts'
import { gatewayRoutes } from './gateways.ts'
import { identityProviderRoutes } from './identity-providers.ts'
import { invitationRoutes } from './invitations.ts'
import { licenceRoutes } from './licence.ts'
import { packRoutes } from './packs.ts'
import { policyRoutes } from './policies.ts'
import { profileRoutes } from './profiles.ts'
import { ruleSetRoutes } from './rule-sets.ts'
import { signalRoutes } from './signals.ts'
import { tagRoutes } from './tags.ts'

export const routes: readonly Route[] = [...invitationRoutes, ...endpointRoutes, ...signalRoutes, ...ruleSetRoutes, ...tagRoutes, ...packRoutes, ...profileRoutes, ...policyRoutes, ...licenceRoutes, ...gatewayRoutes, ...authorityRoutes, ...advisoryRoutes, ...identityProviderRoutes]
