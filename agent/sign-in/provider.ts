// The identity provider, as a native application asks it (RFC 8252: authorization code, PKCE, state). Protocol and checks are openid-client's; whether the ID token is believed, the EMS decides.
import * as oidc from 'openid-client'
import { rootCertificates } from 'node:tls'
import { Agent, fetch as fetchBy } from 'undici'
import { unprintable } from '../../protocol/text.ts'
import type { SignInBegun } from '../local-status.ts'

export type Begun = NonNullable<SignInBegun['begun']>
export interface Attempt {
  /** In the redirect: whoever does not know it answers nothing. */
  readonly state: string
  /** Where the person's browser goes. */
  address(redirectUri: string): Promise<string>
  /** Exchanges the answer for the ID token. @throws a sentence for the person */
  idToken(answered: URL): Promise<string>
  close(): Promise<void>
}

const TIMEOUT_SECONDS = 20
const CLOCK_TOLERANCE_SECONDS = 60
const unprintables = new RegExp(unprintable, 'gu')
/** What strangers say, in a sentence of ours. */
const said = (text: string | undefined): string => (text ?? '').replaceAll(unprintables, ' ').slice(0, 300)

const nextByError: Record<string, string> = {
  access_denied: 'Sign in with an account that may, or ask an administrator of the provider.',
  login_required: 'Run agent sign-in again.', interaction_required: 'Run agent sign-in again.', temporarily_unavailable: 'Try again later.', server_error: 'Try again later.',
}
const forAdministrator = 'An administrator should check how this provider is set up at the EMS.'

/** One or two sentences: what the provider said, or why it could not be asked. */
export function providerFailure(name: string, cause: unknown): string {
  if (cause instanceof oidc.AuthorizationResponseError || cause instanceof oidc.ResponseBodyError) {
    const more = said(cause.error_description)
    return `The identity provider "${name}" refused: ${said(cause.error)}${more === '' ? '' : ` (${more.replace(/\.$/, '')})`}. ${nextByError[cause.error] ?? forAdministrator}`
  }
  const inner = cause instanceof Error ? cause.cause : undefined
  if (cause instanceof TypeError && inner instanceof Error) return `The identity provider "${name}" was not reached: ${said((inner as NodeJS.ErrnoException).code ?? inner.message)}. Check the network, then run agent sign-in again.`
  if (cause instanceof Error && cause.name === 'TimeoutError') return `The identity provider "${name}" did not answer in time. Run agent sign-in again.`
  const why = [cause, inner].flatMap((each) => (each instanceof Error ? [said(each.message)] : []))
  return `What the identity provider "${name}" answered can not be taken: ${why.join(': ')}. ${forAdministrator}`
}

/** @param tlsCa roots beside the machine's, PEM: whom this machine was told to trust at its enrolment */
function fetchTrusting(tlsCa: readonly string[]): { fetch: oidc.CustomFetch; close(): Promise<void> } {
  const dispatcher = new Agent({ connect: { ca: [...rootCertificates, ...tlsCa] } })
  return {
    fetch: async (url, options) => await fetchBy(url, { ...options, body: options.body as string | null, dispatcher }),
    close: () => dispatcher.destroy(),
  }
}

/**
 * Asks the provider for its configuration. @throws a sentence for the person when it does not tell, or is another than it should be
 * @param clockOffsetMs the EMS's clock minus this machine's
 */
export async function askProvider({ provider, nonce }: Begun, { tlsCa, clockOffsetMs }: Pick<SignInBegun, 'tlsCa' | 'clockOffsetMs'>): Promise<Attempt> {
  const trusting = tlsCa.length === 0 ? null : fetchTrusting(tlsCa)
  const orSay = async <T>(step: Promise<T>): Promise<T> => {
    try {
      return await step
    } catch (cause) {
      throw new Error(providerFailure(provider.name, cause), { cause })
    }
  }
  const issuer = new URL(provider.issuer)
  const metadata = { [oidc.clockSkew]: Math.round(clockOffsetMs / 1000), [oidc.clockTolerance]: CLOCK_TOLERANCE_SECONDS }
  const close = () => trusting?.close() ?? Promise.resolve()
  const discovered = oidc.discovery(issuer, provider.clientId, metadata, provider.clientSecret === undefined ? oidc.None() : oidc.ClientSecretPost(provider.clientSecret), {
    timeout: TIMEOUT_SECONDS,
    // The contract takes plain HTTP only where the provider is this very machine.
    ...(issuer.protocol === 'http:' ? { execute: [oidc.allowInsecureRequests] } : {}),
    ...(trusting === null ? {} : { [oidc.customFetch]: trusting.fetch }),
  })
  const configuration = await orSay(discovered.catch(async (cause: unknown) => {
    await close()
    throw cause
  }))
  const [state, pkceCodeVerifier, maxAge] = [oidc.randomState(), oidc.randomPKCECodeVerifier(), provider.sessionSeconds]
  return {
    state,
    async address(redirectUri) {
      const wanted = { redirect_uri: redirectUri, scope: [...new Set(['openid', ...provider.scopes])].join(' '), state, nonce, max_age: String(maxAge), code_challenge: await oidc.calculatePKCECodeChallenge(pkceCodeVerifier), code_challenge_method: 'S256' }
      return oidc.buildAuthorizationUrl(configuration, wanted).href
    },
    async idToken(answered) {
      const { id_token: idToken } = await orSay(oidc.authorizationCodeGrant(configuration, answered, { expectedState: state, expectedNonce: nonce, maxAge, pkceCodeVerifier, idTokenExpected: true }))
      if (idToken === undefined) throw new Error(`The identity provider "${provider.name}" gave no ID token. ${forAdministrator}`)
      return idToken
    },
    close,
  }
}
