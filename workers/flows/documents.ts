// The standing documents of an endpoint: profile, rules, licence, authorities. Each says its version; newer ones are fetched or pushed.
import { licenceStateOf } from '../../domain/licensing/seat.ts'
import { profileOf, resolvePolicy } from '../../domain/policy/resolve.ts'
import { agentRulesFor } from '../../domain/tagging/agent-rules.ts'
import { osType } from '../../protocol/facts.ts'
import type { DocumentPayload, DocumentVersions } from '../../protocol/documents.ts'
import { profileSettings, type AssignedProfile, type EndpointPolicy } from '../../protocol/profile.ts'
import type { EndpointRow } from '../../schema/endpoint.ts'
import { liveAuthorities } from '../../schema/queries/live-authorities.ts'
import { refusedGateways } from '../../schema/queries/revoked.ts'
import { endpointPolicies, licences, profiles } from '../../schema/rules.ts'
import { logEvent, type Context } from '../context.ts'
import { authorityRows, signFor } from './authority.ts'
import { rulesOf } from './rules.ts'
import { changedAt, selectStates, states, type StateRow } from './states.ts'

/** The oldest instants that still are the newest: an agent holding a document signed at or after them is up to date. */
export const versionsOf = (rows: readonly StateRow[]): DocumentVersions =>
  ({ profile: changedAt(rows, states.configuration), licence: changedAt(rows, states.configuration), rules: changedAt(rows, states.questions), authorities: changedAt(rows, states.authorities) })

/** Of one endpoint: its profile may have changed because it came on the fabric, or left it. */
export function versionsFor(rows: readonly StateRow[], { profileMovedAt }: Pick<EndpointRow, 'profileMovedAt'>): DocumentVersions {
  const versions = versionsOf(rows)
  return { ...versions, profile: Math.max(versions.profile, profileMovedAt ?? 0) }
}

/** Signs the documents that are newer than what the agent holds. */
export async function standingDocuments(context: Context, endpoint: EndpointRow, have: DocumentVersions): Promise<string[]> {
  const { db } = context
  const [stateRows, policyRows, profileRows, licenceRows] = await db.batch([selectStates(context), db.select().from(endpointPolicies), db.select().from(profiles), db.select().from(licences)])
  const versions = versionsFor(stateRows, endpoint)
  const version = (kind: keyof DocumentVersions) => Math.max(context.now(), versions[kind])
  const documents: Promise<string>[] = []
  // First: the others may be signed under a CA that only this list introduces.
  if (versions.authorities > have.authorities) documents.push(authoritiesDocument(context, endpoint.uid))
  if (versions.profile > have.profile) {
    const assigned = assignedProfile(endpoint, policyRows.map((row) => ({ ...row, groups: JSON.parse(row.groups) as string[], offFabricProfileId: row.offFabricProfileId ?? undefined })), profileRows)
    if (assigned !== null) documents.push(signFor(context, 'profile', endpoint.uid, assigned, { version: version('profile') }))
  }
  if (versions.rules > have.rules) {
    const os = osType.safeParse(endpoint.os)
    const { rules, ruleSets } = await rulesOf(context, stateRows)
    documents.push(signFor(context, 'rules', endpoint.uid, agentRulesFor(os.success ? os.data : 'linux', ruleSets, rules.revision), { version: version('rules') }))
  }
  if (versions.licence > have.licence) {
    const [licence] = licenceRows
    const terms = licence === undefined ? { features: ['all'], endsAt: null } : { features: JSON.parse(licence.features) as string[], endsAt: licence.endsAt }
    documents.push(signFor(context, 'licence', endpoint.uid, licenceStateOf(terms, context.now()), { version: version('licence') }))
  }
  return await Promise.all(documents)
}

/** Revoked certificates in one list: more gateways than are cut off within the life of a certificate. */
const MAX_REVOKED = 2_000
/** A change bears the instant at which its writer began; so long may it take to be written. */
const MAY_BE_UNDER_WAY_MS = 30_000

export interface Authorities { readonly version: number; readonly body: DocumentPayload<'authorities'>['body'] }

/** Who is trusted now, and which certificates of gateways are not, as they stand in the records: whoever signs it for many reads it once. */
export async function readAuthorities(context: Context): Promise<Authorities> {
  // The first CA is made here; what this isolate knows of the others may be old.
  await authorityRows(context)
  const now = context.now()
  const [stateRows, rows, revoked] = await context.db.batch([selectStates(context), liveAuthorities(context.db, now), refusedGateways(context.db, now, MAX_REVOKED + 1)])
  if (revoked.length > MAX_REVOKED) logEvent('revocations-left-out', { listed: MAX_REVOKED })
  return {
    // Never newer than a change that this has not seen: whoever holds it would not ask for that one.
    version: Math.max(versionsOf(stateRows).authorities, now - MAY_BE_UNDER_WAY_MS),
    body: { certificates: rows.map(({ certificatePem }) => certificatePem), crl: revoked.slice(0, MAX_REVOKED).map(({ serial }) => serial) },
  }
}
export const signAuthorities = (context: Context, to: string, { version, body }: Authorities): Promise<string> => signFor(context, 'authorities', to, body, { version })
export const authoritiesDocument = async (context: Context, to: string): Promise<string> => await signAuthorities(context, to, await readAuthorities(context))

function assignedProfile(endpoint: EndpointRow, policies: readonly EndpointPolicy[], rows: readonly (typeof profiles.$inferSelect)[]): AssignedProfile | null {
  const policy = resolvePolicy(policies, { group: endpoint.group })
  const row = policy === null ? undefined : rows.find(({ id }) => id === profileOf(policy, endpoint.onFabric))
  if (policy === null || row === undefined) return null
  return { profile: { id: row.id, name: row.name }, policy: { id: policy.id, name: policy.name }, settings: profileSettings.parse(JSON.parse(row.settings)) }
}
