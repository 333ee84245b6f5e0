// What a gateway vouches for towards an upstream: a short-lived JWT (RFC 7519, ES256) and the public half of its key. Who asks and why is decided elsewhere.
import { SignJWT, calculateJwkThumbprint, exportJWK, type JWK } from 'jose'

/** The user whom an identity provider (`iss`) vouched for on the device. `more_groups`: there are more than are said here. `exp`: when that ends; absent: it does not by itself. */
export interface AssertedUser { readonly iss: string; readonly sub: string; readonly email?: string; readonly name?: string; readonly groups?: readonly string[]; readonly more_groups?: true; readonly auth_time: number; readonly exp?: number }
/** `sub` is the device's UID, `aud` the service. Instants in seconds. */
export interface AssertionClaims { readonly iss: string; readonly sub: string; readonly aud: string; readonly iat: number; readonly exp: number; readonly tags: readonly string[]; readonly certificate: string; readonly user?: AssertedUser }

/** A public key as it is published, with the name by which assertions refer to it (RFC 7638). */
export async function publishedKey(publicKey: CryptoKey): Promise<JWK & { kid: string }> {
  const jwk = await exportJWK(publicKey)
  return { ...jwk, use: 'sig', alg: 'ES256', kid: await calculateJwkThumbprint(jwk) }
}

export const signAssertion = (claims: AssertionClaims, privateKey: CryptoKey, kid: string): Promise<string> =>
  new SignJWT({ ...claims, tags: [...claims.tags] }).setProtectedHeader({ alg: 'ES256', typ: 'JWT', kid }).sign(privateKey)
