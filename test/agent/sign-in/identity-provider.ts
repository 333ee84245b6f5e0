// A real OpenID provider (oidc-provider) on loopback, and a browser of fetches that fills in its forms.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair, type JSONWebKeySet } from 'jose'
import { Provider, type Configuration } from 'oidc-provider'
import { Agent, fetch } from 'undici'
import { vi } from 'vitest'
import { identityProvider, type IdentityProvider } from '../../../protocol/identity.ts'

// It warns that its store is in memory, and that its forms are for tests.
const warn = console.warn.bind(console)
vi.spyOn(console, 'warn').mockImplementation((...said: unknown[]) => { if (!String(said[0]).startsWith('oidc-provider')) warn(...said) })

export interface RunningProvider {
  readonly issuer: string
  /** As an administrator sets it up at the EMS. */
  readonly settings: IdentityProvider
  /** By which its ID tokens verify. */
  readonly keys: JSONWebKeySet
  /** Answers requests in the provider's place where it returns true. */
  intercept: (request: IncomingMessage, response: ServerResponse) => boolean
  close(): Promise<void>
}

/** Whoever signs in with any login is that subject, with an address at example.com. @param tls of `localhost`; plain HTTP unless said */
export async function startProvider(over: Partial<Configuration> = {}, tls?: { cert: string; key: string }): Promise<RunningProvider> {
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
  let answer: (request: IncomingMessage, response: ServerResponse) => void = (_request, response) => response.writeHead(503).end()
  const hook: Pick<RunningProvider, 'intercept'> = { intercept: () => false }
  const listener = (request: IncomingMessage, response: ServerResponse) => { if (!hook.intercept(request, response)) answer(request, response) }
  const server = tls === undefined ? createServer(listener) : createTlsServer(tls, listener)
  const host = tls === undefined ? '127.0.0.1' : 'localhost'
  await new Promise<void>((resolve) => server.listen(0, host, resolve))
  const issuer = `${tls === undefined ? 'http' : 'https'}://${host}:${(server.address() as AddressInfo).port}`
  const provider = new Provider(issuer, {
    clients: [{ client_id: 'sallyport', application_type: 'native', token_endpoint_auth_method: 'none', redirect_uris: ['http://127.0.0.1/callback'], grant_types: ['authorization_code'], response_types: ['code'], id_token_signed_response_alg: 'ES256' }],
    jwks: { keys: [{ ...await exportJWK(privateKey), alg: 'ES256', use: 'sig', kid: 'first' }] }, cookies: { keys: ['for this test only'] },
    claims: { openid: ['sub', 'auth_time'], email: ['email', 'email_verified'], profile: ['name'], groups: ['groups'] }, scopes: ['openid', 'email', 'profile', 'groups'], conformIdTokenClaims: false,
    enabledJWA: { idTokenSigningAlgValues: ['ES256'] },
    findAccount: (_context, sub) => ({ accountId: sub, claims: () => ({ sub, email: `${sub}@example.com`, email_verified: true, name: 'Ada Lovelace', groups: ['staff'] }) }),
    ttl: { Interaction: 600, Session: 600, Grant: 600, AccessToken: 600, IdToken: 600, AuthorizationCode: 60 }, ...over,
  })
  const serve = provider.callback()
  answer = (request, response) => { void serve(request, response) }
  return Object.assign(hook, {
    issuer, keys: { keys: [{ ...await exportJWK(publicKey), alg: 'ES256', kid: 'first' }] }, settings: identityProvider.parse({ name: 'example', issuer, clientId: 'sallyport', scopes: ['openid', 'email', 'profile', 'groups'] }),
    close: () => new Promise<void>((resolve) => {
      server.close(() => resolve())
      server.closeAllConnections()
    }),
  })
}

export interface Page { readonly url: URL; readonly text: string; readonly headers: ReadonlyMap<string, string> }
/** Follows redirects and keeps cookies, as a browser does; no more. @param ca PEM */
export function createVisitor(ca?: string) {
  const dispatcher = new Agent({ connect: ca === undefined ? {} : { ca } })
  const jar = new Map<string, string>()
  /** @param notTo an origin that is not gone to any more: what would be asked there is the page then */
  async function visit(address: string, init: { method?: string; body?: URLSearchParams } = {}, notTo = ''): Promise<Page> {
    let [url, asked] = [new URL(address), init]
    for (let hop = 0; hop < 20; hop++) {
      if (url.origin === notTo) return { url, text: '', headers: new Map() }
      const response = await fetch(url, { ...asked, dispatcher, redirect: 'manual', headers: { cookie: [...jar].map(([name, value]) => `${name}=${value}`).join('; ') } })
      for (const line of response.headers.getSetCookie()) {
        const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? []
        if (value === '') jar.delete(name)
        else jar.set(name, value)
      }
      const next = response.headers.get('location')
      const text = await response.text()
      if (next === null) return { url, text, headers: new Map(response.headers) }
      ;[url, asked] = [new URL(next, url), {}]
    }
    throw new Error('redirected for ever')
  }
  /** Sends the form of a page, with what a person types. */
  async function submit({ url, text }: Page, typed: Record<string, string>, notTo?: string): Promise<Page> {
    const action = /<form[^>]* action="([^"]+)"/.exec(text)?.[1]
    if (action === undefined) throw new Error(`no form: ${text}`)
    const hidden = [...text.matchAll(/<input type="hidden" name="([^"]+)" value="([^"]*)"/g)].map(([, name = '', value = '']): [string, string] => [name, value])
    return await visit(new URL(action, url).href, { method: 'POST', body: new URLSearchParams([...hidden, ...Object.entries(typed)]) }, notTo)
  }
  const allow = async (address: string, login: string, notTo?: string): Promise<Page> => await submit(await submit(await visit(address), { login, password: 'any' }), {}, notTo)
  return {
    visit,
    /** Signs in and consents; resolves with the last page: the agent's. */
    signIn: (address: string, login = 'ada') => allow(address, login),
    /** The same, up to where the provider sends the browser back. */
    answerFor: async (address: string, login = 'ada') => (await allow(address, login, new URL(new URL(address).searchParams.get('redirect_uri') ?? '').origin)).url,
    /** Declines on the first page. */
    async decline(address: string): Promise<Page> {
      const { url } = await visit(address)
      return await visit(`${url.href}/abort`)
    },
  }
}
