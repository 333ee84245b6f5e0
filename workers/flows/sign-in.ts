// A person signs in on an endpoint, or out: the word of an identity provider becomes the section `identity`, tags and a row of the log, and gateways hear of it. Which token is believed is decided in identity/.
import { eq, sql } from 'drizzle-orm'
import { toBase64Url } from '../../identity/encoding.ts'
import { verifyIdToken } from '../../identity/id-token.ts'
import { secretHash } from '../../identity/keys.ts'
import { ProviderKeys } from '../../identity/provider-keys.ts'
import type { VerifiedUser } from '../../protocol/identity.ts'
import { Fault } from '../../protocol/faults.ts'
import type { Parsed, ReplyInput } from '../../protocol/operation.ts'
import type { beginSignIn, signIn } from '../../protocol/operations/sign-in.ts'
import { endpoints, type EndpointRow } from '../../schema/endpoint.ts'
import type { SignInRow } from '../../schema/identity.ts'
import { gatewaysConcerned } from '../../schema/queries/interest.ts'
import { logTail } from '../../schema/queries/log-tail.ts'
import { begin, isBegun, providerIs, providerNamed, signInOf, spend, withdraw } from '../../schema/queries/sign-in.ts'
import { logEvent, type Context } from '../context.ts'
import { commitSection, type LoadedEndpoint } from './commit-section.ts'
import { readFacts, selectSections, type StoredSection } from './facts.ts'
import { readProvider, type ProviderRow } from './identity-providers.ts'
import { pokeGateways } from './poke.ts'
import { selectStates } from './states.ts'

const BEGUN_MS = 600_000
const ATTEMPTS = 5
const NONCE_BYTES = 32
// Per isolate: what identity providers publish.
const providerKeys = new ProviderKeys((url, init) => fetch(url, init))

export async function begun(context: Context, uid: string, { provider: named }: Parsed<typeof beginSignIn>['body'], rows: readonly ProviderRow[]): Promise<ReplyInput<typeof beginSignIn>> {
  const known = rows.flatMap((row) => readProvider(row) ?? [])
  const providers = known.map(({ name }) => name)
  if (providers.length === 0) throw new Fault('not_found', 'No identity provider is set here, so nobody can sign in; an administrator sets one.')
  const provider = named === undefined ? known.length === 1 ? known[0] : undefined : known.find(({ name }) => name === named)
  if (provider === undefined && named !== undefined) throw new Fault('not_found', `There is no identity provider "${named}"; there are ${providers.join(', ')}.`)
  if (provider === undefined) return { providers, begun: null }
  const nonce = toBase64Url(crypto.getRandomValues(new Uint8Array(NONCE_BYTES)))
  const expiresAt = context.now() + BEGUN_MS
  await begin(context.db, { uid, provider: provider.name, nonceHash: await secretHash(nonce), expiresAt })
  const { trustEmail: _, emailDomains: __, groupsClaim: ___, ...told } = provider
  return { providers, begun: { provider: told, nonce, expiresAt } }
}

interface Loaded extends LoadedEndpoint { readonly provider: ProviderRow | undefined; readonly signIn: SignInRow | undefined }
export const signInLoads = (context: Pick<Context, 'db'>, uid: string, provider: string) =>
  [providerNamed(context.db, provider), signInOf(context.db, uid), selectStates(context), gatewaysConcerned(context.db, uid), selectSections(context.db, uid)] as const
type SignInLoads = readonly [ProviderRow[], SignInRow[], LoadedEndpoint['states'], LoadedEndpoint['concerned'], StoredSection[]]
const loadedOf = (endpoint: EndpointRow, results: readonly unknown[]): Loaded => {
  const [[provider], [signIn], states, concerned, stored] = results as unknown as SignInLoads
  return { endpoint, provider, signIn, states, concerned, stored }
}

/** @param results of {@link signInLoads}, as they came with the endpoint */
export async function takeSignIn(context: Context, endpoint: EndpointRow, body: Parsed<typeof signIn>['body'], results: readonly unknown[]): Promise<ReplyInput<typeof signIn>> {
  let loaded = loadedOf(endpoint, results)
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const user = await take(context, loaded, body)
    if (user !== null) return { provider: body.provider, user }
    // Somebody else was first: the sign-in may be spent, the provider another one.
    const [rows, ...again] = await context.db.batch([context.db.select().from(endpoints).where(eq(endpoints.uid, endpoint.uid)), ...signInLoads(context, endpoint.uid, body.provider)])
    const [row] = rows
    if (row?.registered !== true) throw new Fault('deregistered', 'The endpoint has been deregistered by an administrator.', row?.deregistration == null ? {} : { document: row.deregistration })
    loaded = loadedOf(row, again)
  }
  throw new Fault('busy', 'The endpoint is being changed by others; send it again.', { retryAfterSeconds: 1 })
}

/** null: another writer was first. */
async function take(context: Context, loaded: Loaded, { provider: name, idToken: token }: Parsed<typeof signIn>['body']): Promise<VerifiedUser | null> {
  const { endpoint, signIn: open, concerned, stored } = loaded
  const provider = loaded.provider === undefined ? null : readProvider(loaded.provider)
  if (provider === null || loaded.provider === undefined) throw new Fault('not_found', 'There is no such identity provider.')
  const now = context.now()
  if (open === undefined || open.provider !== name || open.expiresAt <= now) throw new Fault('conflict', 'No sign-in by this identity provider is under way on this endpoint, or it took too long; begin one.')
  const tokenHash = await secretHash(token)
  if (open.tokenHash !== null) {
    const user = signedInUser(endpoint, stored)
    if (open.tokenHash !== tokenHash || endpoint.identityBy !== name || user === null) throw new Fault('conflict', 'The sign-in begun has been spent; begin another.')
    // Its reply was lost, and with it perhaps a poke.
    await pokeGateways(context, concerned, await logTail(context.db))
    return user
  }
  const verdict = await verifyIdToken({ token, provider, keyOf: await providerKeys.of(provider.issuer, now), nonceHash: open.nonceHash, now })
  if (!verdict.ok) {
    logEvent('sign-in-refused', { uid: endpoint.uid, provider: name, reason: verdict.reason, message: verdict.message })
    throw new Fault('invalid', verdict.message, { errors: [{ pointer: '/idToken', detail: verdict.reason }] })
  }
  const { user } = verdict
  const committed = await commitSection(context, loaded, {
    section: 'identity', value: user, now, set: { identityBy: name, identityUntil: null }, tables: ['sysinfo'],
    when: sql`${providerIs(loaded.provider)} AND ${isBegun(endpoint.uid, open.nonceHash)}`, also: (guard) => [spend(context.db, guard, open.nonceHash, tokenHash)],
  })
  if (committed === null) return null
  logEvent('signed-in', { uid: endpoint.uid, provider: name, subject: user.subject, groups: verdict.groups === 'told' ? user.groups?.length : `not told: ${verdict.groups}`, email: user.email === undefined ? 'not told' : 'told' })
  return user
}

/** Who the endpoint's records say is signed in, in time or not; null: nobody. */
export function signedInUser({ identityBy }: Pick<EndpointRow, 'identityBy'>, stored: readonly StoredSection[]): VerifiedUser | null {
  return identityBy === null ? null : readFacts(stored, new Set(['identity'])).identity?.value ?? null
}

/** Nobody is signed in any more, and a sign-in that was begun is void. Idempotent: said again, gateways are told again. */
export async function signedOut(context: Context, uid: string): Promise<void> {
  const { db } = context
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const [[endpoint], states, concerned, stored] = await db.batch([db.select().from(endpoints).where(eq(endpoints.uid, uid)), selectStates(context), gatewaysConcerned(db, uid), selectSections(db, uid), withdraw(db, uid)])
    if (endpoint?.registered !== true) throw new Fault('not_found', 'There is no such endpoint.')
    if (!stored.some(({ section }) => section === 'identity')) return await pokeGateways(context, concerned, await logTail(db))
    const change = { section: 'identity', value: null, now: context.now(), set: { identityBy: null, identityUntil: null }, tables: ['sysinfo'] } as const
    if (await commitSection(context, { endpoint, states, concerned, stored }, change) === null) continue
    logEvent('signed-out', { uid, by: context.caller.kind })
    return
  }
  throw new Fault('busy', 'The endpoint is being changed by others; try again.', { retryAfterSeconds: 1 })
}
