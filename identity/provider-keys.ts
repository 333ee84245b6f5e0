// What an identity provider publishes: its configuration (OpenID Connect Discovery) and its keys. Fetched within bounds, remembered for a while; never believed where it names itself otherwise than it was asked for.
import { createRemoteJWKSet, customFetch, type JWTVerifyGetKey } from 'jose'
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
/** `now`: of whoever asks, for what is fetched meanwhile. */
interface Held { readonly keyOf: JWTVerifyGetKey; readonly until: number; now: number }

/** Keys of identity providers by issuer. One for an isolate. */
export class ProviderKeys {
  readonly #held = new Map<string, Held>()
  readonly #away = new Map<string, { readonly fault: Fault; readonly until: number }>()
  readonly #fetch: Fetch
  constructor(fetch: Fetch) { this.#fetch = fetch }

  /** @param now ms @throws Fault `busy` where the provider does not answer as it must */
  async of(issuer: string, now: number): Promise<JWTVerifyGetKey> {
    const known = this.#held.get(issuer)
    if (known !== undefined && known.until > now) {
      known.now = now
      return known.keyOf
    }
    const { jwks_uri: uri } = await this.#orAway(issuer, () => now, () => discover(this.#fetch, issuer))
    // Around what is fetched only: who names a key that there is not must not keep others from those that there are.
    const held: Held = { keyOf: remoteKeys(uri, (init) => this.#orAway(uri, () => held.now, () => readKeys(this.#fetch, uri, init))), until: now + REMEMBERED_MS, now }
    put(this.#held, issuer, held)
    return held.keyOf
  }

  async #orAway<T>(what: string, now: () => number, ask: () => Promise<T>): Promise<T> {
    const away = this.#away.get(what)
    if (away !== undefined && away.until > now()) throw away.fault
    try {
      return await ask()
    } catch (cause) {
      if (cause instanceof Fault) put(this.#away, what, { fault: cause, until: now() + AWAY_MS })
      throw cause
    }
  }
}

const remoteKeys = (uri: string, read: (init: RequestInit) => Promise<object>): JWTVerifyGetKey =>
  createRemoteJWKSet(new URL(uri), { cacheMaxAge: REMEMBERED_MS, cooldownDuration: ASKED_AGAIN_MS, timeoutDuration: TIMEOUT_MS, [customFetch]: async (_, init) => Response.json(await read(init)) })

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
  const { keys } = await readKeys(fetch, found.jwks_uri, {})
  if (!keys.some(({ kty }) => kty === 'RSA' || kty === 'EC' || kty === 'OKP')) throw away(`${found.jwks_uri} publishes no key that could have signed an ID token.`)
}

async function discover(fetch: Fetch, issuer: string): Promise<Configuration> {
  const url = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`
  const read = configuration.safeParse(await readJson(fetch, url, { headers: { accept: 'application/json' } }))
  if (!read.success) throw away(`${url} is no OpenID Connect configuration.`)
  // Otherwise whoever serves this address could speak for any issuer.
  if (read.data.issuer !== issuer) throw away(`${url} is the configuration of another issuer. Name the issuer exactly as the provider does.`)
  const { protocol, hostname } = new URL(issuer)
  const keys = URL.parse(read.data.jwks_uri)
  if (keys === null || (keys.protocol !== 'https:' && !(protocol === 'http:' && issuerShape.safeParse(keys.origin).success))) throw away(`${url} names keys that are not at an https address.`)
  // Else a provider could have the EMS knock at doors of the network around it.
  if (protocol === 'https:' && keys.hostname !== hostname && UNNAMED.test(keys.hostname)) throw away(`${url} names keys at ${keys.href}, which is no name of its own.`)
  // As it is parsed: what is written may move a terminal or a reader.
  return { ...read.data, jwks_uri: keys.href }
}
/** Addresses, however they were written, and this very machine. */
const UNNAMED = /^(\[.*\]|[\d.]+|(.+\.)?localhost\.?)$/

const keySet = z.looseObject({ keys: z.array(z.looseObject({ kty: z.unknown() })) })
async function readKeys(fetch: Fetch, uri: string, init: RequestInit): Promise<z.infer<typeof keySet>> {
  const read = keySet.safeParse(await readJson(fetch, uri, init))
  if (!read.success) throw away(`${uri} gives no set of keys.`)
  return read.data
}

/** One answer with status 200; a redirect is none: it could lead anywhere, into the network of the EMS too. */
async function ask(fetch: Fetch, url: string, init: RequestInit): Promise<Response> {
  const response = await fetch(url, { ...init, redirect: 'manual', signal: AbortSignal.timeout(TIMEOUT_MS) }).catch((cause: unknown) => { throw away(`${url} does not answer.`, cause) })
  if (response.status === 200) return response
  await response.body?.cancel()
  throw away(response.status >= 300 && response.status < 400 ? `${url} answers with a redirect, which is not followed.` : `${url} answers with status ${response.status}.`)
}

async function readJson(fetch: Fetch, url: string, init: RequestInit): Promise<unknown> {
  const response = await ask(fetch, url, init)
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
