// Who is signed in on the endpoint that asks: begin, take the provider's word, tell, and end.
import { beginSignIn, ownIdentity, signIn, signOut } from '../../protocol/operations/sign-in.ts'
import { allProviders } from '../../schema/queries/sign-in.ts'
import { selectSections, type StoredSection } from '../flows/facts.ts'
import type { ProviderRow } from '../flows/identity-providers.ts'
import { begun, signedInUser, signedOut, signInLoads, takeSignIn } from '../flows/sign-in.ts'
import { handle, type Route } from '../http/mount.ts'

export const identityRoutes: Route[] = [
  handle(beginSignIn, {
    load: ({ db }) => [allProviders(db)],
    run: (context, { body }, [rows]) => begun(context, context.caller.uid, body, rows as ProviderRow[]),
  }),
  handle(signIn, {
    load: (context, uid, { body }) => [...signInLoads(context, uid, body.provider)],
    run: (context, { body }, results) => takeSignIn(context, context.caller.endpoint, body, results),
  }),
  handle(ownIdentity, {
    load: ({ db }, uid) => [selectSections(db, uid)],
    run({ caller, now }, _, [stored]) {
      const { identityBy: provider } = caller.endpoint
      const user = signedInUser(caller.endpoint, stored as StoredSection[])
      return Promise.resolve({ signedIn: user === null || provider === null || (user.expiresAt !== null && user.expiresAt <= now()) ? null : { provider, user } })
    },
  }),
  handle(signOut, {
    async run(context) {
      await signedOut(context, context.caller.uid)
      return { ok: true as const }
    },
  }),
]
