// What an identity provider publishes: its configuration (OpenID Connect Discovery) and its keys. Fetched within bounds, remembered for a while; never believed where it names itself otherwise than it was asked for.
import { createRemoteJWKSet, customFetch, errors, type JWTVerifyGetKey } from 'jose'
import { z } from 'zod'
import { Fault } from '../protocol/faults.ts'
import { issuer as issuerShape, type IdentityProvider } from '../protocol/identity.ts'
import { ID_TOKEN_ALGORITHMS } from './id-token.ts'

const REMEMBERED_MS = 600_000
/** A token may name any key: what does not exist is asked for so often. */
const ASKED_AGAIN_MS = 30_000
/** What did not answer is not asked again by everybody who signs in meanwhile. */
const AWAY_MS = 5_000
const TIMEOUT_MS = 5_000
const MAX_BYTES = 256 * 1024
/** Issuers remembered by one isolate. */
const MAX_HELD = 64

export type Fetch = (url: string, init: RequestInit) => Promise<Response>

const configuration = z.object({
  issuer: z.string(), jwks_uri: z.string().max(2048), authorization_endpoint: z.string().optional(), token_endpoint: z.string().optional(),
  id_token_signing_alg_values_supported: z.array(z.string()).optional(), code_challenge_methods_supported: z.array(z.string()).optional(),
})
type Configuration = z.infer<typeof configuration>
interface Held { readonly keyOf: JWTVerifyGetKey; readonly until: number }

/** Keys of identity providers by issuer. One for an isolate. */
export class ProviderKeys {
  readonly #held = new Map<string, Held>()
  readonly #away = new Map<string, { readonly fault: Fault; readonly until: number }>()
  readonly #fetch: Fetch
  constructor(fetch: Fetch) { this.#fetch = fetch }

  /** @param now ms @throws Fault `busy` where the provider does not answer as it must */
  async of(issuer: string, now: number): Promise<JWTVerifyGetKey> {
    const away = this.#away.get(issuer)
    if (away !== undefined && away.until > now) throw away.fault
    const held = this.#held.get(issuer)
    if (held !== undefined && held.until > now) return held.keyOf
    const { jwks_uri: uri } = await this.#orAway(issuer, now, () => discover(this.#fetch, issuer))
    const remote = remoteKeys(this.#fetch, uri)
    const keyOf: JWTVerifyGetKey = (header, token) => this.#orAway(issuer, now, async () => await remote(header, token))
    put(this.#held, issuer, { keyOf, until: now + REMEMBERED_MS })
    return keyOf
  }

  async #orAway<T>(issuer: string, now: number, ask: () => Promise<T>): Promise<T> {
    try {
      return await ask()
    } catch (cause) {
      if (cause instanceof Fault) put(this.#away, issuer, { fault: cause, until: now + AWAY_MS })
      throw cause
    }
  }
}
function put<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key)
  map.set(key, value)
  for (const oldest of map.keys()) if (map.size > MAX_HELD) map.delete(oldest)
}

/** Asks a provider for all that a sign-in needs of it. @throws Fault `busy` with what is wrong */
export async function checkProvider(fetch: Fetch, { issuer }: Pick<IdentityProvider, 'issuer'>): Promise<void> {
  const found = await discover(fetch, issuer)
  if (found.authorization_endpoint === undefined || found.token_endpoint === undefined) throw away(`${issuer} publishes no endpoints for the authorization code flow.`)
  if (found.code_challenge_methods_supported?.includes('S256') === false) throw away(`${issuer} does not take PKCE with S256, which native applications need.`)
  if (found.id_token_signing_alg_values_supported?.some((algorithm) => ID_TOKEN_ALGORITHMS.includes(algorithm)) === false) throw away(`${issuer} signs ID tokens with none of ${ID_TOKEN_ALGORITHMS.join(', ')}.`)
  const read = z.object({ keys: z.array(z.looseObject({ kty: z.string() })) }).safeParse(await readJson(await ask(fetch, found.jwks_uri, {}), found.jwks_uri))
  if (!read.success || !read.data.keys.some(({ kty }) => ['RSA', 'EC', 'OKP'].includes(kty))) throw away(`${found.jwks_uri} publishes no key that could have signed an ID token.`)
}

async function discover(fetch: Fetch, issuer: string): Promise<Configuration> {
  const url = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`
  const read = configuration.safeParse(await readJson(await ask(fetch, url, { headers: { accept: 'application/json' } }), url))
  if (!read.success) throw away(`${url} is no OpenID Connect configuration.`)
  // Otherwise whoever serves this address could speak for any issuer.
  if (read.data.issuer !== issuer) throw away(`${url} is the configuration of another issuer. Name the issuer exactly as the provider does.`)
  const plain = new URL(issuer).protocol === 'http:'
  const keys = URL.parse(read.data.jwks_uri)
  if (keys?.protocol !== 'https:' && !(plain && keys !== null && issuerShape.safeParse(keys.origin).success)) throw away(`${url} names keys that are not at an https address.`)
  return read.data
}

const remoteKeys = (fetch: Fetch, uri: string): JWTVerifyGetKey => {
  const keys = createRemoteJWKSet(new URL(uri), { cacheMaxAge: REMEMBERED_MS, cooldownDuration: ASKED_AGAIN_MS, timeoutDuration: TIMEOUT_MS, [customFetch]: async (url, init) => Response.json(await readJson(await ask(fetch, url, init), url)) })
  return async (header, token) => {
    try {
      return await keys(header, token)
    } catch (cause) {
      if (cause instanceof errors.JWKSTimeout || cause instanceof errors.JWKSInvalid) throw away(`${uri} gives no set of keys.`, cause)
      throw cause
    }
  }
}

/** One answer with status 200; a redirect is none: it could lead anywhere, into the network of the EMS too. */
async function ask(fetch: Fetch, url: string, init: RequestInit): Promise<Response> {
  const response = await fetch(url, { ...init, redirect: 'manual', signal: AbortSignal.timeout(TIMEOUT_MS) }).catch((cause: unknown) => { throw away(`${url} does not answer.`, cause) })
  if (response.status === 200) return response
  await response.body?.cancel()
  throw away(response.status >= 300 && response.status < 400 ? `${url} answers with a redirect, which is not followed.` : `${url} answers with status ${response.status}.`)
}

async function readJson(response: Response, url: string): Promise<unknown> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  try {
    for await (const chunk of response.body ?? []) {
      bytes += chunk.byteLength
      if (bytes > MAX_BYTES) throw away(`${url} answers with more than ${MAX_BYTES / 1024} KiB.`)
      chunks.push(chunk)
    }
    return JSON.parse(await new Blob(chunks).text())
  } catch (cause) {
    if (cause instanceof Fault) throw cause
    throw away(cause instanceof SyntaxError ? `${url} answers with what is no JSON.` : `${url} does not answer.`, cause)
  }
}

const away = (what: string, cause?: unknown): Fault => new Fault('busy', `The identity provider can not be asked: ${what}`, { cause, retryAfterSeconds: AWAY_MS / 1000 })
