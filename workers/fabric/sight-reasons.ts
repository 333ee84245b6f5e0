// What a gateway sees and why, as administrators ask.
import { readEndpointSight, readGatewaySight } from '../../protocol/operations/fabric.ts'
import { endpointSight, gatewaySight } from '../flows/gateway-sight.ts'
import { handle, type Route } from '../http/mount.ts'

export const sightReasonRoutes: readonly Route[] = [
  handle(readGatewaySight, { run: (context, { params }) => gatewaySight(context, params.serial) }),
  handle(readEndpointSight, { run: (context, { params }) => endpointSight(context, params.serial, params.uid) }),
]
