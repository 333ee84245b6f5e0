// Hands an admitted agent's websocket to the object of its shard, which asks for one more proof before it says anything.
import { Fault } from '../../protocol/faults.ts'
import { channel } from '../../protocol/operations/endpoint.ts'
import { toBase64 } from '../../identity/encoding.ts'
import { handle } from '../http/mount.ts'

export const channelRoute = handle(channel, {
  async run({ env, caller, request }) {
    if (request.headers.get('upgrade')?.toLowerCase() !== 'websocket') throw new Fault('upgrade_required', 'Open this as a websocket.')
    // A new request: nothing of the client's headers but the upgrade reaches the object.
    return await env.ENDPOINT_CHANNEL.getByName(caller.uid.slice(0, 1)).fetch('https://object/', {
      headers: { 'upgrade': 'websocket', 'x-uid': caller.uid, 'x-serial': caller.signed.serial, 'x-key': toBase64(caller.signed.publicKeySpki) },
    })
  },
})
