// What other systems say of endpoints.
import { clearSignal, putSandbox, putScore, putThreats } from '../../protocol/operations/signals.ts'
import { tellSignal } from '../flows/signals.ts'
import { handle, type Route } from '../http/mount.ts'

export const signalRoutes: Route[] = [
  handle(putSandbox, { run: async (context, { params: { uid, source }, body }) => ({ at: await tellSignal(context, uid, { kind: 'sandbox', source, value: body }), expiresAt: body.expiresAt }) }),
  handle(putThreats, { run: async (context, { params: { uid, source }, body }) => ({ at: await tellSignal(context, uid, { kind: 'threats', source, value: body }), expiresAt: body.expiresAt }) }),
  handle(putScore, { run: async (context, { params: { uid, source }, body }) => ({ at: await tellSignal(context, uid, { kind: 'scores', source, value: body }), expiresAt: body.expiresAt }) }),
  handle(clearSignal, {
    async run(context, { params: { uid, kind, source } }) {
      await tellSignal(context, uid, { kind, source, value: null })
      return { ok: true as const }
    },
  }),
]
