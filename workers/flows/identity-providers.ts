// Identity providers as administrators set them. Whoever is signed in by one that goes, or whose word counts otherwise from now on, is signed out.
import { sql, type SQL } from 'drizzle-orm'
import { checkProvider } from '../../identity/provider-keys.ts'
import { Fault } from '../../protocol/faults.ts'
import { identityProvider, type IdentityProvider } from '../../protocol/identity.ts'
import type { identityProviders } from '../../schema/identity.ts'
import { deleteProvider, endAllBy, MAX_PROVIDERS, providerNamed, saveProvider, withdrawAllBy } from '../../schema/queries/sign-in.ts'
import { logEvent, type Context } from '../context.ts'

export type ProviderRow = typeof identityProviders.$inferSelect

/** null: what is stored can not be read, which is as good as none; it can be set anew. */
export function readProvider({ name, body }: ProviderRow): IdentityProvider | null {
  const read = identityProvider.safeParse({ ...parsed(body), name })
  if (!read.success) logEvent('identity-provider-unreadable', { name })
  return read.success ? read.data : null
}
function parsed(body: string): object {
  try {
    const value: unknown = JSON.parse(body)
    return typeof value === 'object' && value !== null ? value : {}
  } catch {
    return {} // damaged: the caller says so
  }
}

/** Whether what is stored, before the statements that follow, takes people for somebody by another measure; damaged, it does. */
const countsOtherwise = ({ name, issuer, clientId, trustEmail, emailDomains, groupsClaim, sessionSeconds }: IdentityProvider): SQL => sql`EXISTS (SELECT 1 FROM identity_providers p WHERE p.name = ${name} AND CASE WHEN json_valid(p.body) THEN
  p.body->>'issuer' IS NOT ${issuer} OR p.body->>'clientId' IS NOT ${clientId} OR p.body->>'trustEmail' IS NOT ${trustEmail} OR p.body->'emailDomains' IS NOT ${emailDomains === undefined ? null : JSON.stringify(emailDomains)} OR p.body->>'groupsClaim' IS NOT ${groupsClaim} OR p.body->>'sessionSeconds' > ${sessionSeconds} ELSE 1 END)`

/** @param check ask the issuer first, and refuse what is not as a sign-in needs it */
export async function setProvider(context: Context, provider: IdentityProvider, check: boolean): Promise<IdentityProvider> {
  const { db, env } = context
  if (!provider.scopes.includes('openid')) throw new Fault('invalid', 'Without the scope "openid" a provider vouches for nobody.', { errors: [{ pointer: '/scopes', detail: 'must have openid' }] })
  if (check) await checked(provider)
  const now = context.now()
  const otherwise = countsOtherwise(provider)
  const [ended, , saved] = await db.batch([
    endAllBy(db, provider.name, now, otherwise), withdrawAllBy(db, provider.name, otherwise),
    saveProvider(db, { name: provider.name, body: JSON.stringify(provider), updatedAt: now }),
  ])
  if (saved.meta.changes === 0) throw new Fault('conflict', `There are ${MAX_PROVIDERS} identity providers already; remove one first.`)
  if (ended.meta.changes > 0) await env.RE_EVALUATION.getByName('one').start()
  logEvent('identity-provider-set', { name: provider.name, issuer: provider.issuer, signedOut: ended.meta.changes })
  return provider
}

async function checked(provider: IdentityProvider): Promise<void> {
  try {
    await checkProvider((url, init) => fetch(url, init), provider)
  } catch (cause) {
    if (cause instanceof Fault) throw new Fault('invalid', `${cause.message} Nothing is saved; with "check": false (--unchecked of the command line) the issuer is not asked.`, { cause, errors: [{ pointer: '/issuer', detail: 'does not answer as an identity provider that people can sign in by' }] })
    throw cause
  }
}

/** Idempotent but for the first: what is not there is not found. */
export async function removeProvider({ db, env, now }: Context, name: string): Promise<void> {
  const [found, ended] = await db.batch([providerNamed(db, name), endAllBy(db, name, now()), withdrawAllBy(db, name), deleteProvider(db, name)])
  if (ended.meta.changes > 0) await env.RE_EVALUATION.getByName('one').start()
  if (found.length === 0) throw new Fault('not_found', 'There is no such identity provider.')
  logEvent('identity-provider-removed', { name, signedOut: ended.meta.changes })
}
