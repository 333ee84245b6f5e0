// What a new deployment starts with: one profile and one policy for everybody, and an unlimited licence.
import { profileSettings } from '../../protocol/profile.ts'
import { endpointPolicies, licences, profiles } from '../../schema/rules.ts'
import type { Context } from '../context.ts'
import { signFor } from './authority.ts'
import { bumpState, states } from './states.ts'

// Fixed ids: two first requests at once make one of each.
const DEFAULT_PROFILE = '00000000-0000-4000-8000-000000000001'
const DEFAULT_POLICY = '00000000-0000-4000-8000-000000000002'

/** Makes what is missing, once; later changes of it are never undone. */
export async function ensureDefaults(context: Context): Promise<void> {
  const { db } = context
  const [licence] = await db.select({ id: licences.id }).from(licences)
  if (licence !== undefined) return
  const now = context.now()
  const terms = { seats: null, features: ['all'], endsAt: null }
  await db.batch([
    db.insert(licences).values({ id: 1, seats: null, features: JSON.stringify(terms.features), endsAt: null, issuedAt: now, document: await signFor(context, 'licence', '*', { state: 'seated', features: terms.features, endsAt: null }) }).onConflictDoNothing(),
    db.insert(profiles).values({ id: DEFAULT_PROFILE, name: 'Default', settings: JSON.stringify(profileSettings.parse({})), updatedAt: now }).onConflictDoNothing(),
    db.insert(endpointPolicies).values({ id: DEFAULT_POLICY, name: 'Everybody', enabled: true, position: 1_000_000, groups: '[]', profileId: DEFAULT_PROFILE, updatedAt: now }).onConflictDoNothing(),
    bumpState(context, states.configuration, now),
  ])
}
