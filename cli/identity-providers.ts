// `identity-providers`: who vouches for people that sign in on their devices.
import { z } from 'zod'
import { identityProvider, issuer, providerName, type IdentityProvider } from '../protocol/identity.ts'
import { listIdentityProviders, removeIdentityProvider, setIdentityProvider } from '../protocol/operations/sign-in.ts'
import { line } from '../protocol/text.ts'
import { UsageError } from '../node/config.ts'
import { command, type Session } from './command.ts'
import { definedCommands } from './defined.ts'
import { checkBy, toYaml } from './definitions.ts'
import { pagesOf } from './pages.ts'
import { duration, flag, listOf, wholeNumber } from './values.ts'

/** Its name is its id. */
type Item = IdentityProvider & { readonly id: string }
const itemOf = (provider: IdentityProvider): Item => ({ ...provider, id: provider.name })
async function* pages({ call }: Session): AsyncGenerator<readonly Item[]> {
  for await (const page of pagesOf((query) => call(listIdentityProviders, { query }))) yield page.map(itemOf)
}
const put = async ({ call }: Session, { name, ...settings }: IdentityProvider, check: boolean) => itemOf(await call(setIdentityProvider, { params: { name }, body: { ...settings, check } }))
const shape = identityProvider.shape

const setCommand = command({
  name: 'identity-providers set', summary: 'Add an identity provider, or change what is given of one.',
  note: 'Register Sallyport there as a native application: public, authorization code with PKCE, redirect http://127.0.0.1/callback with any port.\nIts ID token must carry email, email_verified and groups itself: userinfo is not asked.\nThe EMS asks the issuer first and says what is wrong. Whoever is signed in is signed out where the word counts otherwise than before:\nanother issuer, client, groups claim, trust in e-mail or its domains, or a shorter session.',
  words: { NAME: { says: 'lower-case letters, digits and hyphens', schema: providerName } },
  options: {
    'issuer': { takes: 'URL', says: 'exactly as the provider names itself; needed for a new one', schema: issuer.optional() },
    'client-id': { takes: 'ID', says: 'of that application; needed for a new one', schema: line(256).optional() },
    'client-secret': { takes: 'TEXT', says: 'only where the provider wants one of native applications too: every agent gets it, it protects nothing; none: without', schema: line(256).optional() },
    'scopes': { takes: 'LIST', says: 'what is asked for; openid profile email unless set', schema: listOf(z.string()).pipe(shape.scopes.unwrap()).optional(), list: true },
    'groups-claim': { takes: 'NAME', says: 'the claim of the ID token that lists groups; groups unless set', schema: line(128).optional() },
    'trust-email': { takes: 'WHEN', says: 'verified: only addresses that the provider verified; always: where the organisation owns every address', schema: z.enum(['verified', 'always'], { error: 'must be verified or always' }).optional() },
    'email-domains': { takes: 'LIST', says: 'e-mails of these domains only are taken from it, so that no provider names another\'s people; all: of any', schema: listOf(z.string()).pipe(z.union([z.tuple([z.literal('all')]), shape.emailDomains.unwrap()], { error: 'must be domains, or all' })).optional(), list: true },
    'session': { takes: 'DURATION', says: 'how long the word counts from the proof on, 5m to 30d; 12h unless set', schema: duration.pipe(shape.sessionSeconds.unwrap()).optional() },
    'redirect-port': { takes: 'PORT', says: 'where the provider does not take any port; any: it does', schema: z.union([z.literal('any'), wholeNumber.pipe(shape.redirectPort.unwrap())], { error: 'must be a port from 1024 on, or any' }).optional() },
    'unchecked': flag('do not ask the issuer first'),
  },
  examples: [
    'identity-providers set corp --issuer https://id.example.com --client-id sallyport',
    'identity-providers set entra --issuer https://login.microsoftonline.com/TENANT/v2.0 --client-id 00000000-0000-0000-0000-000000000000 --trust-email always',
    'identity-providers set corp --groups-claim roles --session 8h',
  ],
  async run({ words: { NAME: name }, options }, session) {
    const before = await found(session, name)
    const merged = given({
      ...before, name, issuer: options.issuer ?? before?.issuer, clientId: options['client-id'] ?? before?.clientId, clientSecret: options['client-secret'] === 'none' ? undefined : options['client-secret'] ?? before?.clientSecret,
      scopes: options.scopes ?? before?.scopes, groupsClaim: options['groups-claim'] ?? before?.groupsClaim, trustEmail: options['trust-email'] ?? before?.trustEmail, emailDomains: options['email-domains']?.[0] === 'all' ? undefined : options['email-domains'] ?? before?.emailDomains, sessionSeconds: options.session ?? before?.sessionSeconds,
      redirectPort: options['redirect-port'] === 'any' ? undefined : options['redirect-port'] ?? before?.redirectPort,
    })
    if (merged.issuer === undefined || merged.clientId === undefined) throw new UsageError('identity-providers set needs --issuer URL and --client-id ID for a new one.')
    const { id: _, ...saved } = await put(session, identityProvider.parse(merged), !options.unchecked)
    await session.printer.one(saved, () => [`${before === null ? 'added' : 'changed'}: ${name}`, ...toYaml(saved).map((each) => `  ${each}`)])
  },
})
async function found(session: Session, name: string): Promise<IdentityProvider | null> {
  for await (const page of pages(session)) {
    const item = page.find((each) => each.name === name)
    if (item !== undefined) return bodyOf(item)
  }
  return null
}
const given = <T extends object>(values: T): T => Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as T
function bodyOf(item: Item): IdentityProvider {
  const { id: _, ...body } = item
  return body
}
const hours = (seconds: number): string => (seconds % 3600 === 0 ? `${seconds / 3600}h` : `${Math.round(seconds / 60)}m`)

export const identityProviderCommands = [
  setCommand,
  ...definedCommands<Item, IdentityProvider>({
    noun: 'identity-providers', one: 'identity provider',
    columns: [
      { title: 'NAME', cell: ({ name }) => name },
      { title: 'SESSION', cell: ({ sessionSeconds }) => hours(sessionSeconds) },
      { title: 'E-MAIL', cell: ({ trustEmail }) => trustEmail },
      { title: 'GROUPS', cell: ({ groupsClaim }) => groupsClaim },
      { title: 'CLIENT', cell: ({ clientId }) => clientId },
      { title: 'ISSUER', cell: (each) => each.issuer },
    ],
    pages, bodyOf,
    create: (session, body) => put(session, body, true), replace: (session, _, body) => put(session, body, true),
    remove: ({ call }, name) => call(removeIdentityProvider, { params: { name } }),
    deleting: 'Whoever is signed in by it is signed out.',
    fileForm: () => Promise.resolve({ check: checkBy(identityProvider), toFile: (body) => body }),
    example: { name: 'corp', file: 'identity-providers.yaml' },
  }),
]
