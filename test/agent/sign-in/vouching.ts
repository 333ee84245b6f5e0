// What the EMS does about identity, for its double: begins sign-ins, and believes an ID token of the one begun last, once it has verified it.
import { randomBytes } from 'node:crypto'
import { createLocalJWKSet, errors, jwtVerify } from 'jose'
import type { IdentityProvider, VerifiedUser } from '../../../protocol/identity.ts'
import { refusal, type Answer, type EmsDouble } from '../ems-double.ts'
import type { RunningProvider } from './identity-provider.ts'

export interface Vouching {
  providers: IdentityProvider[]
  signedIn: { provider: string; user: VerifiedUser } | null
  /** Nonces that were given out. */
  readonly nonces: string[]
}

export function vouch(ems: EmsDouble, { settings, keys }: RunningProvider): Vouching {
  const vouching: Vouching = { providers: [settings], signedIn: null, nonces: [] }
  ems.instead.set('begin-sign-in', ({ body }): Answer => {
    const names = vouching.providers.map(({ name }) => name)
    const named = vouching.providers.find(({ name }) => name === (body.provider ?? (names.length === 1 ? names[0] : undefined)))
    if (named === undefined) return body.provider === undefined ? { json: { providers: names, begun: null } } : refusal('not_found')
    const { trustEmail: _trust, groupsClaim: _groups, ...provider } = named
    const nonce = randomBytes(32).toString('base64url')
    vouching.nonces.push(nonce)
    return { json: { providers: names, begun: { provider, nonce, expiresAt: ems.now() + 600_000 } } }
  })
  ems.instead.set('sign-in', async ({ body }): Promise<Answer> => {
    const provider = vouching.providers.find(({ name }) => name === body.provider)
    if (provider === undefined) return refusal('not_found')
    try {
      const { payload } = await jwtVerify<{ nonce?: string; email?: string; name?: string; groups?: string[]; auth_time?: number }>(String(body.idToken), createLocalJWKSet(keys), { issuer: provider.issuer, audience: provider.clientId })
      if (payload.nonce === undefined || payload.nonce !== vouching.nonces.at(-1)) return refusal('forbidden')
      const authenticatedAt = (payload.auth_time ?? 0) * 1000
      const { email, name, groups } = payload
      vouching.signedIn = { provider: provider.name, user: { issuer: provider.issuer, subject: payload.sub ?? '', ...(email === undefined ? {} : { email }), ...(name === undefined ? {} : { name }), ...(groups === undefined ? {} : { groups }), authenticatedAt, expiresAt: authenticatedAt + provider.sessionSeconds * 1000 } }
      return { json: vouching.signedIn }
    } catch (cause) {
      if (!(cause instanceof errors.JOSEError)) throw cause
      return refusal('forbidden')
    }
  })
  ems.instead.set('own-identity', (): Answer => ({ json: { signedIn: vouching.signedIn } }))
  ems.instead.set('sign-out', (): Answer => {
    vouching.signedIn = null
    return { json: { ok: true } }
  })
  return vouching
}
