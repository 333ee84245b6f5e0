// The routes of the fabric wire.
import type { Route } from '../http/mount.ts'
import { joiningRoutes } from './joining.ts'
import { notifyRoute } from './notify.ts'
import { reportRoutes } from './reports.ts'
import { serverRoutes } from './server.ts'

export const routes: readonly Route[] = [...serverRoutes, ...joiningRoutes, ...reportRoutes, notifyRoute]
