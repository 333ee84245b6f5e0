// How gateways come in and go out, by the published calls.
import { disconnect, joinApprove, joinInit, renewGateway, updateAuth, updateGateway } from '../../protocol/operations/fabric.ts'
import { Fault } from '../../protocol/faults.ts'
import { authoritiesDocument } from '../flows/documents.ts'
import { authorise, deauthoriseGateway, entitle, findGateway, joinGateway, renewGatewayCertificate, retirePrevious, vouch } from '../flows/gateways.ts'
import { handle, type Route } from '../http/mount.ts'
import { ok } from './server.ts'

export const joiningRoutes: readonly Route[] = [
  handle(joinInit, {
    async run(context, { body }) {
      if (context.caller.kind !== 'key') throw new Fault('unsigned', 'Sign the request with the key of the certificate request.')
      const { serial, state, fingerprint, reason, certificatePem } = await joinGateway(context, body, context.caller.signed.publicKeyHash)
      return {
        result: ok,
        data: {
          result: ok, serial, state, fingerprint, reason,
          ...(state === 'authorised' && certificatePem !== null ? { certificate: certificatePem, authorities: await authoritiesDocument(context, serial) } : {}),
        },
      }
    },
  }),
  handle(joinApprove, {
    async run(context, { body }) {
      const verdicts = Object.fromEntries(Object.entries(body.fortigates).map(([serial, { authenticate }]) => [serial, authenticate]))
      const done = await vouch(context, context.caller.gateway, verdicts)
      return { result: ok, data: { ...done, ...(body.expiry_period === undefined ? {} : { expiry: { expiry_period: body.expiry_period } }) } }
    },
  }),
  handle(disconnect, {
    async run(context, { body }) {
      const { serial } = context.caller
      for (const leaving of body.fgt_sns) {
        const row = leaving === serial ? context.caller.gateway : await findGateway(context, leaving)
        // The same answer as for a serial that does not exist: a gateway does not learn of others.
        if (row.serial !== serial && row.vouchedBy !== serial) throw new Fault('not_found', 'There is no such gateway.')
        await deauthoriseGateway(context, row.serial, 'The gateway has left the fabric.')
      }
      return { result: ok, data: {} }
    },
  }),
  handle(updateGateway, {
    async run(context, { params, body }) {
      await entitle(context, params.sn, {
        ...(body.share_mode === undefined ? {} : { shareMode: body.share_mode }), ...(body.selected_cn_list === undefined ? {} : { selectedSerials: JSON.stringify(body.selected_cn_list) }),
        ...(body.share_tag_types === undefined ? {} : { shareTagTypes: JSON.stringify(body.share_tag_types) }), ...(body.alias === undefined ? {} : { name: body.alias }),
        ...(body.is_root === undefined ? {} : { isRoot: body.is_root }),
      })
      return { result: ok, data: {} }
    },
  }),
  handle(updateAuth, {
    async run(context, { body }) {
      for (const { id, authorized } of body.devices_to_update) {
        if (authorized) await authorise(context, await findGateway(context, id), {})
        else await deauthoriseGateway(context, id, '')
      }
      return { result: ok, data: {} }
    },
  }),
  handle(renewGateway, {
    async run(context, { body }) {
      const { gateway, serial, signed } = context.caller
      await retirePrevious(context, gateway, signed.serial)
      return { certificate: await renewGatewayCertificate(context, gateway, signed.serial, body.csr), authorities: await authoritiesDocument(context, serial) }
    },
  }),
]
