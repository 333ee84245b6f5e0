// Who calls, as far as cryptography or a token tells. Whether our records admit the caller is asked with the data, in one trip.
import { VerifiedLeaves, type TrustedAuthority } from '../../identity/certificate.ts'
import { equalInConstantTime, type Bytes } from '../../identity/encoding.ts'
import { NonceMemory } from '../../identity/replay.ts'
import { verifyRequest, type SignedCaller } from '../../identity/request-signature.ts'
import { Fault } from '../../protocol/faults.ts'
import type { Operation } from '../../protocol/operation.ts'
import type { Context } from '../context.ts'
import { trustedAuthorities } from '../flows/authority.ts'

const DAY = 86_400_000
/** How long after its end a certificate still asks for a new one. */
export const RENEWAL_GRACE_MS = 30 * DAY
const LOOK_AGAIN_AFTER_MS = 1_000
// Per isolate: a cache of leaves found to be ours, and the nonces seen lately. Those of bare keys are apart: anybody can make keys, and must not push out what is remembered of endpoints.
const leaves = new VerifiedLeaves()
const nonces = { certified: new NonceMemory(), bare: new NonceMemory() }

export type Claim = { readonly kind: 'nobody' } | { readonly kind: 'administrator' } | { readonly kind: 'signed'; readonly signed: SignedCaller }

/**
 * Checks what the operation asks for; throws the Fault that says what is wrong.
 * @param readBody called when the caller has proved itself: what a stranger sends is not held in memory
 */
export async function authenticate(operation: Operation, context: Context, readBody: () => Promise<Bytes>): Promise<{ claim: Claim; body: Bytes }> {
  if (operation.caller === 'administrator') {
    const claim = administrator(context)
    return { claim, body: await readBody() }
  }
  if (operation.caller === 'nobody' && operation.signedByBareKey !== true) return { claim: { kind: 'nobody' }, body: await readBody() }
  let body: Bytes = new Uint8Array()
  const read = async () => (body = await readBody())
  const { request } = context
  const url = new URL(request.url)
  // Signed is the authority that the client wrote; behind an emulator or a proxy the URL may bear another.
  const host = request.headers.get('host')
  if (host !== null) url.host = host
  const verify = (authorities: readonly TrustedAuthority[]) => verifyRequest({
    method: request.method, url: url.href, headers: request.headers, body: read, now: context.now(), cache: leaves, authorities,
    purposes: [operation.caller === 'gateway' ? 'gateway' : 'agent'],
    acceptsExpiredMs: operation.acceptsExpired === true ? RENEWAL_GRACE_MS : 0, bareKey: operation.signedByBareKey ?? false,
  })
  const authorities = operation.signedByBareKey === true ? [] : await trustedAuthorities(context)
  let verdict = await verify(authorities)
  if (!verdict.ok && verdict.foreign === true) {
    // Another isolate may have rolled the CA over since this one looked. A stranger's certificate makes it look once a second at most.
    const newer = await trustedAuthorities(context, LOOK_AGAIN_AFTER_MS)
    if (newer !== authorities) verdict = await verify(newer)
  }
  if (!verdict.ok) throw new Fault(verdict.code, verdict.message, verdict.code === 'clock_skew' ? { emsTime: context.now() } : {})
  const memory = operation.signedByBareKey === true ? nonces.bare : nonces.certified
  if (memory.seen(verdict.caller.keyId, verdict.caller.nonce, context.now())) throw new Fault('replayed', 'This very request has been seen before; sign a new one.')
  return { claim: { kind: 'signed', signed: verdict.caller }, body }
}

function administrator({ config, request }: Context): Claim {
  const given = /^Bearer ([!-~]{1,512})$/.exec(request.headers.get('authorization') ?? '')?.[1]
  if (config.adminToken === null || given === undefined || !equalInConstantTime(given, config.adminToken)) {
    throw new Fault('unauthenticated', 'Send the administrator\'s token as "Authorization: Bearer …".')
  }
  return { kind: 'administrator' }
}
