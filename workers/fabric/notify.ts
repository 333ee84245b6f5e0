// Hands an admitted gateway's websocket to its own object, which asks for one more proof before it says anything.
import { toBase64 } from '../../identity/encoding.ts'
import { Fault } from '../../protocol/faults.ts'
import { notify } from '../../protocol/operations/fabric.ts'
import { retirePrevious } from '../flows/gateways.ts'
import { handle, type Route } from '../http/mount.ts'

export const notifyRoute: Route = handle(notify, {
  async run(context) {
    const { env, caller, request } = context
    if (request.headers.get('upgrade')?.toLowerCase() !== 'websocket') throw new Fault('upgrade_required', 'Open this as a websocket.')
    await retirePrevious(context, caller.gateway, caller.signed.serial)
    // A new request: nothing of the client's headers but the upgrade reaches the object.
    return await env.FCM_NOTIFY.getByName(caller.serial).fetch('https://object/', {
      headers: { 'upgrade': 'websocket', 'x-gateway': caller.serial, 'x-serial': caller.signed.serial, 'x-key': toBase64(caller.signed.publicKeySpki) },
    })
  },
})
