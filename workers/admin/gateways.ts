// Gateways as administrators see them: authorised by their fingerprint or ahead by a code, and cut off.
import { newSecret, secretHash } from '../../identity/keys.ts'
import { JOIN_CODE_PREFIX, writeInvitation } from '../../protocol/invitation.ts'
import { authoriseGateway, createJoinCode, deauthoriseGateway, listGateways, setGatewayFabric } from '../../protocol/operations/admin.ts'
import { joinCodes } from '../../schema/invitation.ts'
import { authorityRows } from '../flows/authority.ts'
import { describeGateway, listGateways as list } from '../flows/describe-gateway.ts'
import { authoriseGateway as authorise, deauthoriseGateway as deauthorise } from '../flows/gateways.ts'
import { markGateway } from '../flows/mark-gateway.ts'
import { handle, type Route } from '../http/mount.ts'
import { requireTls } from './invitations.ts'

export const gatewayRoutes: Route[] = [
  handle(listGateways, { run: (context, { query }) => list(context, query) }),
  handle(authoriseGateway, { run: async (context, { params, body }) => describeGateway(context, await authorise(context, params.serial, body.fingerprint)) }),
  handle(deauthoriseGateway, { run: async (context, { params, body }) => describeGateway(context, await deauthorise(context, params.serial, body.reason)) }),
  handle(setGatewayFabric, { run: async (context, { params, body }) => describeGateway(context, await markGateway(context, params.serial, body.place)) }),
  handle(createJoinCode, {
    async run(context, { body }) {
      const ems = requireTls(context)
      const [[active], code, now] = [await authorityRows(context), newSecret(), context.now()]
      const row = { id: crypto.randomUUID(), codeHash: await secretHash(code), name: body.name, createdAt: now, expiresAt: now + body.expiresInSeconds * 1000 }
      await context.db.insert(joinCodes).values(row)
      return { id: row.id, expiresAt: row.expiresAt, text: writeInvitation(JOIN_CODE_PREFIX, { ems, pin: active.pin, code }) }
    },
  }),
]
