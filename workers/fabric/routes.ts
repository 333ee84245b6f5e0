// The routes of the fabric wire.
import type { Route } from '../http/mount.ts'
import { joiningRoutes } from './joining.ts'
import { notifyRoute } from './notify.ts'
import { pictureRoutes } from './pictures.ts'
import { reportRoutes } from './reports.ts'
import { serverRoutes } from './server.ts'
import { sightReasonRoutes } from './sight-reasons.ts'
import { sightRoutes } from './sights.ts'

export const routes: readonly Route[] = [...serverRoutes, ...joiningRoutes, ...reportRoutes, ...pictureRoutes, ...sightRoutes, ...sightReasonRoutes, notifyRoute]
