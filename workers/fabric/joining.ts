// How gateways come in and go out, by the published calls.
import { disconnect, joinApprove, joinInit, renewGateway, updateAuth, updateGateway } from '../../protocol/operations/fabric.ts'
import { Fault } from '../../protocol/faults.ts'
import { ownAmong } from '../../schema/queries/interest.ts'
import { authoritiesDocument } from '../flows/documents.ts'
import { entitle, vouch } from '../flows/entitle.ts'
import { authorise, awaitDecision, BY_ITSELF, deauthoriseGateway, findGateway, joinGateway, pendingUntil, renewGatewayCertificate, retirePrevious } from '../flows/gateways.ts'
import { handle, type Route } from '../http/mount.ts'
import { ok } from './server.ts'

export const joiningRoutes: readonly Route[] = [
  handle(joinInit, {
    async run(context, { body }) {
      if (context.caller.kind !== 'key') throw new Fault('unsigned', 'Sign the request with the key of the certificate request.')
      const row = await awaitDecision(context, await joinGateway(context, body, context.caller.signed.publicKeyHash), (body.wait ?? 0) * 1000)
      const { serial, state, fingerprint, reason, certificatePem } = row
      return {
        result: ok,
        data: {
          result: ok, serial, state, fingerprint, reason, pending_until: pendingUntil(row),
          ...(state === 'authorised' && certificatePem !== null ? { certificate: certificatePem, authorities: await authoritiesDocument(context, serial) } : {}),
        },
      }
    },
  }),
  handle(joinApprove, {
    async run(context, { body }) {
      const verdicts = Object.fromEntries(Object.entries(body.fortigates).map(([serial, { authenticate }]) => [serial, authenticate]))
      const done = await vouch(context, context.caller.gateway, verdicts, body.expiry_period)
      return { result: ok, data: { ...done, ...(body.expiry_period === undefined ? {} : { expiry: { expiry_period: body.expiry_period } }) } }
    },
  }),
  handle(disconnect, {
    async run(context, { body }) {
      const named = [...new Set(body.fgt_sns)]
      const theirs = await ownAmong(context.db, context.caller.serial, named)
      // The same answer as for a serial that does not exist, before anything is done: a gateway does not learn of others.
      if (theirs.length < named.length) throw new Fault('not_found', 'There is no such gateway.')
      for (const { serial } of theirs) await deauthoriseGateway(context, serial, 'The gateway has left the fabric.')
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
      for (const { id, authorized, reason } of body.devices_to_update) {
        if (authorized) await authorise(context, await findGateway(context, id), BY_ITSELF)
        else await deauthoriseGateway(context, id, reason ?? '')
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
