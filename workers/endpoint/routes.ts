// The routes of endpoints, and those that anybody may call.
import { avatarRoute } from './avatar.ts'
import { certificateRoutes } from './certificates.ts'
import { channelRoute } from './channel.ts'
import { documentsRoute } from './documents.ts'
import { enrolRoute } from './enrol.ts'
import { explainRoutes } from './explain.ts'
import { identityRoutes } from './identity.ts'
import { introduceRoutes } from './introduce.ts'
import { telemetryRoute } from './telemetry.ts'
import type { Route } from '../http/mount.ts'

export const routes: readonly Route[] = [...introduceRoutes, enrolRoute, ...certificateRoutes, telemetryRoute, documentsRoute, avatarRoute, ...explainRoutes, ...identityRoutes, channelRoute]
