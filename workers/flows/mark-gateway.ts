// An administrator marks a gateway as the fabric's own, or ends that.
import type { FabricPlace } from '../../protocol/fabric/place.ts'
import { Fault } from '../../protocol/faults.ts'
import type { GatewayRow } from '../../schema/gateway.ts'
import { forgetPlaces, setPlace } from '../../schema/queries/on-fabric.ts'
import type { Context } from '../context.ts'
import { findGateway } from './gateways.ts'
import { endPlace } from './on-fabric.ts'

/** From its next report on, within a minute, what it sees says who is on the fabric. @param place null: it is not the fabric's own, and whom it alone saw leaves at once */
export async function markGateway(context: Context, serial: string, place: FabricPlace | null): Promise<GatewayRow> {
  const { db } = context
  const row = await findGateway(context, serial)
  if (place !== null && row.state !== 'authorised') throw new Fault('conflict', 'The gateway is not authorised; authorise it first.')
  await db.batch([setPlace(db, serial, place === null ? null : JSON.stringify(place)), ...(place === null ? [forgetPlaces(db, serial)] : [])])
  if (place === null) await endPlace(context, serial)
  return await findGateway(context, serial)
}
