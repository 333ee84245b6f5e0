// The word of an identity provider: what must hold of an ID token (OpenID Connect Core, 3.1.3.7) before it says who somebody is. It fetches nothing and remembers nothing.
import { errors, jwtVerify, type JWTPayload, type JWTVerifyGetKey } from 'jose'
import { Fault } from '../protocol/faults.ts'
import { verifiedUser, type IdentityProvider, type VerifiedUser } from '../protocol/identity.ts'
import { secretHash } from './keys.ts'

/** Asymmetric only: what a shared or a public text can sign, anybody can sign. */
export const ID_TOKEN_ALGORITHMS: readonly string[] = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519']
const SKEW_SECONDS = 60

export type IdTokenRefusal = 'malformed' | 'algorithm' | 'key' | 'signature' | 'issuer' | 'audience' | 'nonce' | 'expired' | 'future' | 'too-old' | 'claim'
/** Why nothing is told of groups. A list that is not whole would let a person pass as not in a group. */
export type GroupsTold = 'told' | 'absent' | 'overage' | 'no-list' | 'too-many' | 'unfit'
export type IdTokenVerdict =
  | { readonly ok: true; readonly user: VerifiedUser; readonly groups: GroupsTold }
  | { readonly ok: false; readonly reason: IdTokenRefusal; readonly message: string }

const sentences = {
  malformed: 'The ID token is not a signed JWT.',
  algorithm: 'The ID token is not signed with an algorithm that is taken: it must be an asymmetric signature.',
  key: 'The ID token names no key that the identity provider publishes.',
  signature: 'The signature of the ID token does not verify with the keys that the identity provider publishes.',
  issuer: 'The ID token was issued by another than this identity provider.',
  audience: 'The ID token was issued to another application.',
  nonce: 'The ID token does not belong to the sign-in begun on this endpoint.',
  expired: 'The ID token has expired; sign in again.',
  future: 'The ID token is of the future: the clock of the identity provider is not that of the EMS.',
  'too-old': 'The person proved it longer ago than a sign-in lasts; sign in again.',
} as const satisfies Record<Exclude<IdTokenRefusal, 'claim'>, string>
const refuse = (reason: keyof typeof sentences): IdTokenVerdict => ({ ok: false, reason, message: sentences[reason] })
const refuseClaim = (claim: string): IdTokenVerdict => ({ ok: false, reason: 'claim', message: `The claim "${claim}" of the ID token is missing or not acceptable.` })

/**
 * @param keyOf finds the key of the provider; a Fault that it throws is passed on
 * @param nonceHash SHA-256 of the nonce that the sign-in was begun with, hex
 * @param now ms
 */
export async function verifyIdToken(given: { token: string; provider: IdentityProvider; keyOf: JWTVerifyGetKey; nonceHash: string; now: number }): Promise<IdTokenVerdict> {
  const { token, provider, keyOf, nonceHash, now } = given
  let claims: JWTPayload
  try {
    ({ payload: claims } = await jwtVerify(token, keyOf, {
      algorithms: [...ID_TOKEN_ALGORITHMS], issuer: provider.issuer, audience: provider.clientId, currentDate: new Date(now), clockTolerance: SKEW_SECONDS,
      requiredClaims: ['iss', 'aud', 'sub', 'exp', 'iat', 'nonce'],
    }))
  } catch (cause) {
    return refusalOf(cause)
  }
  // One that was issued to several is ours only when it says so.
  const { azp } = claims
  if (azp === undefined ? Array.isArray(claims.aud) && claims.aud.length > 1 : azp !== provider.clientId) return refuse('audience')
  if (typeof claims.nonce !== 'string' || await secretHash(claims.nonce) !== nonceHash) return refuse('nonce')
  return userOf(claims, provider, now)
}

function userOf(claims: JWTPayload, provider: IdentityProvider, now: number): IdTokenVerdict {
  // A provider tells it to whom `max_age` is asked with. By `iat` instead, a device that leaves that out would make an old proof new as often as it likes.
  const { iat, auth_time: authTime } = claims as { iat: number; auth_time?: unknown }
  if (typeof authTime !== 'number' || !Number.isFinite(authTime) || authTime < 0) return refuseClaim('auth_time')
  if (Math.max(iat, authTime) * 1000 > now + SKEW_SECONDS * 1000) return refuse('future')
  const authenticatedAt = Math.min(Math.floor(authTime * 1000), now)
  const expiresAt = authenticatedAt + provider.sessionSeconds * 1000
  if (expiresAt <= now) return refuse('too-old')
  const { groups, told } = groupsOf(claims, provider.groupsClaim)
  const trusted = (provider.trustEmail === 'always' || claims.email_verified === true) && isOfDomains(claims.email, provider.emailDomains)
  const user = verifiedUser.safeParse({
    issuer: claims.iss, subject: claims.sub, authenticatedAt, expiresAt,
    ...(claims.email == null || !trusted ? {} : { email: claims.email }), ...(claims.name == null ? {} : { name: claims.name }), ...(groups === null ? {} : { groups }),
  })
  if (!user.success) return refuseClaim(claimNames[String(user.error.issues[0]?.path[0])] ?? 'iss')
  return { ok: true, user: user.data, groups: told }
}
/** What is no text is refused with what it is, later. */
const isOfDomains = (email: unknown, domains: readonly string[] | undefined): boolean => domains === undefined || typeof email !== 'string' || domains.includes(email.slice(email.lastIndexOf('@') + 1).toLowerCase())
const claimNames: Readonly<Record<string, string>> = { subject: 'sub', email: 'email', name: 'name', groups: 'groups', authenticatedAt: 'auth_time', expiresAt: 'auth_time' }

/** null: not told, which is unknown and no empty list. */
function groupsOf(claims: JWTPayload, name: string): { groups: string[] | null; told: GroupsTold } {
  const none = (told: GroupsTold) => ({ groups: null, told })
  if (!Object.hasOwn(claims, name)) {
    // Microsoft Entra's word for "too many to list": the claim is left out, and where to ask for it is named.
    const elsewhere = claims._claim_names
    return none(claims.hasgroups === true || (typeof elsewhere === 'object' && elsewhere !== null && Object.hasOwn(elsewhere, name)) ? 'overage' : 'absent')
  }
  const listed = claims[name]
  if (!Array.isArray(listed)) return none('no-list')
  const shape = verifiedUser.shape.groups.unwrap()
  if (listed.length > MOST_GROUPS) return none('too-many')
  const groups = shape.safeParse([...new Set(listed)])
  return groups.success ? { groups: groups.data, told: 'told' } : none('unfit')
}
const MOST_GROUPS = 256

function refusalOf(cause: unknown): IdTokenVerdict {
  if (cause instanceof Fault) throw cause
  if (cause instanceof errors.JOSEAlgNotAllowed || cause instanceof errors.JOSENotSupported) return refuse('algorithm')
  if (cause instanceof errors.JWKSNoMatchingKey || cause instanceof errors.JWKSMultipleMatchingKeys) return refuse('key')
  if (cause instanceof errors.JWSSignatureVerificationFailed) return refuse('signature')
  if (cause instanceof errors.JWTExpired) return refuse('expired')
  if (cause instanceof errors.JWTClaimValidationFailed) return cause.claim === 'iss' && cause.reason !== 'missing' ? refuse('issuer') : cause.claim === 'aud' && cause.reason !== 'missing' ? refuse('audience') : cause.claim === 'nbf' ? refuse('future') : cause.claim === 'nonce' ? refuse('nonce') : refuseClaim(cause.claim)
  if (cause instanceof errors.JWSInvalid || cause instanceof errors.JWTInvalid) return refuse('malformed')
  // A key that is published and of no use: too short, or not of the kind that the token is signed with.
  if (cause instanceof errors.JOSEError || cause instanceof TypeError || cause instanceof DOMException) return refuse('key')
  throw cause
}
