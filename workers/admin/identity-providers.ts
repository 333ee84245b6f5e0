// Identity providers, and the end of a sign-in on one endpoint.
import { listIdentityProviders, removeIdentityProvider, setIdentityProvider, signOutEndpoint } from '../../protocol/operations/sign-in.ts'
import { allProviders } from '../../schema/queries/sign-in.ts'
import { readProvider, removeProvider, setProvider } from '../flows/identity-providers.ts'
import { signedOut } from '../flows/sign-in.ts'
import { handle, type Route } from '../http/mount.ts'
import { pageOf } from './paging.ts'

export const identityProviderRoutes: Route[] = [
  handle(listIdentityProviders, {
    async run({ db }, { query: { after = '', limit } }) {
      const providers = (await allProviders(db)).flatMap((row) => readProvider(row) ?? []).filter(({ name }) => name > after)
      return pageOf(providers, limit, ({ name }) => name, (provider) => provider)
    },
  }),
  handle(setIdentityProvider, { run: (context, { params: { name }, body: { check, ...settings } }) => setProvider(context, { name, ...settings }, check) }),
  handle(removeIdentityProvider, {
    async run(context, { params }) {
      await removeProvider(context, params.name)
      return { ok: true as const }
    },
  }),
  handle(signOutEndpoint, {
    async run(context, { params }) {
      await signedOut(context, params.uid)
      return { ok: true as const }
    },
  }),
]
