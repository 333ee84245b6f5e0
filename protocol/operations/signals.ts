// What other systems tell the EMS of an endpoint: a sandbox, a firewall, whoever scores devices. Rules read it by source; no agent can report it, nor take it away.
import { z } from 'zod'
import { operation } from '../operation.ts'
import { signalKind, signalSource, signalValues } from '../facts.ts'
import { uid } from '../ids.ts'
import { instant } from '../text.ts'

const caller = 'administrator' as const
const params = z.object({ uid, source: signalSource })
/** ms: from then on it says nothing any more, good or bad; null: until it is replaced or cleared. */
const expiresAt = instant.nullable().default(null)
const taken = z.object({ at: instant, expiresAt: instant.nullable() })

export const putSandbox = operation({
  id: 'put-sandbox-detections', method: 'PUT', path: '/api/v1/admin/endpoints/{uid}/signals/sandbox/{source}', caller, params,
  summary: 'What a sandbox detected on an endpoint, all of it; an empty list says that there is nothing.', body: signalValues.sandbox.extend({ expiresAt }), reply: taken,
})
export const putThreats = operation({
  id: 'put-firewall-threats', method: 'PUT', path: '/api/v1/admin/endpoints/{uid}/signals/threats/{source}', caller, params,
  summary: 'What a firewall detected from an endpoint, all of it; an empty list says that there is nothing.', body: signalValues.threats.extend({ expiresAt }), reply: taken,
})
export const putScore = operation({
  id: 'put-score', method: 'PUT', path: '/api/v1/admin/endpoints/{uid}/signals/scores/{source}', caller, params,
  summary: 'What another system scores an endpoint.', body: signalValues.scores.extend({ expiresAt }), reply: taken,
})
export const clearSignal = operation({
  id: 'clear-signal', method: 'DELETE', path: '/api/v1/admin/endpoints/{uid}/signals/{kind}/{source}', caller, params: z.object({ uid, kind: signalKind, source: signalSource }),
  summary: 'Forget what a source said: unknown from then on.', reply: z.object({ ok: z.literal(true) }),
})
