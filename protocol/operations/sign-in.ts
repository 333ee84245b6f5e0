// A person signs in on an endpoint by an identity provider: the agent is a native OIDC client (RFC 8252), the EMS believes the ID token only.
import { z } from 'zod'
import { operation } from '../operation.ts'
import { uid } from '../ids.ts'
import { identityProvider, providerName, verifiedUser } from '../identity.ts'
import { instant } from '../text.ts'

const done = z.object({ ok: z.literal(true) })
const caller = 'administrator' as const

/** What the agent puts into its authorization request, so that the ID token is good for this endpoint and this sign-in only. */
export const signInNonce = z.string().regex(/^[A-Za-z0-9_-]{43}$/, 'must be 32 bytes in base64url')
/** A compact JWS; what it says is checked elsewhere. */
export const idToken = z.string().max(60_000).regex(/^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$/, 'must be a signed JWT')

const signedIn = z.object({ provider: providerName, user: verifiedUser })

export const beginSignIn = operation({
  id: 'begin-sign-in', method: 'POST', path: '/api/v1/endpoint/identity/begin', caller: 'endpoint',
  summary: 'Begin to sign a person in: which provider to ask, and the nonce to ask with. It replaces the one begun before.',
  body: z.strictObject({
    /** Absent: the only one there is. */
    provider: providerName.optional(),
  }),
  reply: z.object({
    /** Every provider by name; with several and none named nothing is begun: name one of them. */
    providers: z.array(providerName),
    begun: z.object({
      /** `sessionSeconds` is the `max_age` to ask with: an older proof is refused. */
      provider: identityProvider.pick({ name: true, issuer: true, clientId: true, clientSecret: true, scopes: true, redirectPort: true, sessionSeconds: true }),
      nonce: signInNonce,
      /** ms, EMS clock: the ID token must be here before. */
      expiresAt: instant,
    }).nullable(),
  }),
})
export const signIn = operation({
  id: 'sign-in', method: 'POST', path: '/api/v1/endpoint/identity', caller: 'endpoint', maxBodyBytes: 64 * 1024,
  summary: 'The ID token of the sign-in begun last. Gateways have been told of the user when this is answered. The same token again answers the same until the sign-in begun ends.',
  body: z.strictObject({ provider: providerName, idToken }), reply: signedIn,
})
export const ownIdentity = operation({
  id: 'own-identity', method: 'GET', path: '/api/v1/endpoint/identity', caller: 'endpoint', summary: 'Who is signed in on this endpoint; null: nobody, or no more.',
  reply: z.object({ signedIn: signedIn.nullable() }),
})
export const signOut = operation({
  id: 'sign-out', method: 'DELETE', path: '/api/v1/endpoint/identity', caller: 'endpoint', summary: 'Nobody is signed in on this endpoint any more.', reply: done,
})

export const listIdentityProviders = operation({
  id: 'list-identity-providers', method: 'GET', path: '/api/v1/admin/identity-providers', caller, summary: 'Identity providers, by name.',
  query: z.object({ after: z.string().max(128).optional(), limit: z.coerce.number().int().min(1).max(200).default(50) }),
  reply: z.object({ items: z.array(identityProvider), next: z.string().nullable() }),
})
export const setIdentityProvider = operation({
  id: 'set-identity-provider', method: 'PUT', path: '/api/v1/admin/identity-providers/{name}', caller,
  summary: 'Add or replace an identity provider. Where its word counts otherwise than before (issuer, client id, e-mail, groups, a shorter session), whoever is signed in by it is signed out.',
  params: z.object({ name: providerName }),
  body: identityProvider.omit({ name: true }).extend({
    /** Ask the issuer for its configuration and keys first, and refuse with the reason where that fails. */
    check: z.boolean().default(true),
  }),
  reply: identityProvider,
})
export const removeIdentityProvider = operation({
  id: 'remove-identity-provider', method: 'DELETE', path: '/api/v1/admin/identity-providers/{name}', caller,
  summary: 'Nobody signs in by it any more, and whoever is signed in by it is signed out.', params: z.object({ name: providerName }), reply: done,
})
export const signOutEndpoint = operation({
  id: 'sign-out-endpoint', method: 'POST', path: '/api/v1/admin/endpoints/{uid}/sign-out', caller, summary: 'Sign out whoever is signed in on an endpoint; its gateways have been told when this is answered.',
  params: z.object({ uid }), body: z.strictObject({}), reply: done,
})
