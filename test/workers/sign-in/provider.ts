// An identity provider at the far side of the wire: its configuration, its keys and its tokens, as a test wants them. The Worker's own fetch reaches it and nothing else.
import { exportJWK, exportSPKI, generateKeyPair, SignJWT, type CryptoKey, type JWK } from 'jose'
import { vi } from 'vitest'
import { admin, signed, type Answer, type Endpoint } from '../ems.ts'

export const CLIENT = 'sallyport-agent'
export interface Provider {
  readonly name: string
  readonly issuer: string
  /** What its addresses answer; replaced by tests. */
  readonly answers: Map<string, () => Response | Promise<Response>>
  /** Addresses asked for, in order. */
  readonly asked: string[]
  /** An ID token; claims replace, and null takes away. */
  token(nonce: string, claims?: Record<string, unknown>, header?: Record<string, unknown>): Promise<string>
  sign(claims: Record<string, unknown>, header: Record<string, unknown>, key?: CryptoKey | Uint8Array): Promise<string>
  readonly publicKey: CryptoKey
  publicPem(): Promise<string>
  /** Another key in its set, under another id. */
  rotate(kid: string): Promise<void>
}
const providers = new Map<string, Provider>()
let count = 0

/** Stands in for the network: what no provider of the test serves is not there. */
export function wireProviders(): void {
  vi.stubGlobal('fetch', async (input: string | URL | Request) => {
    const url = input instanceof Request ? input.url : String(input)
    const provider = [...providers.values()].find(({ issuer }) => url.startsWith(issuer))
    if (provider === undefined) throw new TypeError('no such host')
    provider.asked.push(url)
    const answer = provider.answers.get(url.slice(provider.issuer.length))
    return answer === undefined ? new Response('none', { status: 404 }) : await answer()
  })
}

/** A provider with an issuer of its own: nothing that is remembered of another is of it. */
export async function providerOf(settings: object = {}): Promise<Provider> {
  const name = `idp-${++count}`
  const issuer = `https://${name}.example.com`
  let { privateKey, publicKey } = await generateKeyPair('RS256', { extractable: true })
  let kid = 'first'
  const keys: JWK[] = [{ ...await exportJWK(publicKey), kid, use: 'sig', alg: 'RS256' }]
  const provider: Provider = {
    name, issuer, asked: [], answers: new Map([
      ['/.well-known/openid-configuration', () => Response.json({ issuer, jwks_uri: `${issuer}/keys`, authorization_endpoint: `${issuer}/authorize`, token_endpoint: `${issuer}/token`, code_challenge_methods_supported: ['S256'], id_token_signing_alg_values_supported: ['RS256'] })],
      ['/keys', () => Response.json({ keys })],
    ]),
    async sign(claims, header, key = privateKey) { return await new SignJWT(claims).setProtectedHeader({ alg: 'RS256', kid, ...header }).sign(key) },
    async token(nonce, claims = {}, header = {}) {
      const now = Math.floor(Date.now() / 1000)
      const all = { iss: issuer, aud: CLIENT, sub: 'person-1', iat: now, exp: now + 300, auth_time: now - 5, nonce, email: 'alice@example.com', email_verified: true, name: 'Alice', groups: ['staff'], ...claims }
      return await provider.sign(Object.fromEntries(Object.entries(all).filter(([, value]) => value !== null)), header)
    },
    get publicKey() { return publicKey },
    publicPem: () => exportSPKI(publicKey),
    async rotate(next) {
      ({ privateKey, publicKey } = await generateKeyPair('RS256', { extractable: true }))
      kid = next
      keys.push({ ...await exportJWK(publicKey), kid, use: 'sig', alg: 'RS256' })
    },
  }
  providers.set(name, provider)
  const saved = await admin('PUT', `/identity-providers/${name}`, { issuer, clientId: CLIENT, ...settings })
  if (saved.status !== 200) throw new Error(`the provider was not saved: ${JSON.stringify(saved.json)}`)
  return provider
}

const path = '/api/v1/endpoint/identity'
export const begin = (endpoint: Endpoint, provider?: Provider) => signed(endpoint, 'POST', `${path}/begin`, provider === undefined ? {} : { provider: provider.name })
export async function nonceFor(endpoint: Endpoint, provider: Provider): Promise<string> {
  const { json } = await begin(endpoint, provider)
  return (json.begun as { nonce: string }).nonce
}
export const present = (endpoint: Endpoint, { name }: Provider, idToken: string): Promise<Answer> => signed(endpoint, 'POST', path, { provider: name, idToken })
/** Begins and presents a token of that sign-in. */
export const signIn = async (endpoint: Endpoint, provider: Provider, claims: Record<string, unknown> = {}): Promise<Answer> => await present(endpoint, provider, await provider.token(await nonceFor(endpoint, provider), claims))
export const ownIdentity = async (endpoint: Endpoint) => (await signed(endpoint, 'GET', path)).json.signedIn as { provider: string; user: Record<string, unknown> } | null
