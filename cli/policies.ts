// `policies`: endpoint policies, which give groups of endpoints their profile. Access policies are the gateways' own and not here.
import { z } from 'zod'
import { createPolicy, deletePolicy, listPolicies, listProfiles, replacePolicy } from '../protocol/operations/admin.ts'
import { uuid } from '../protocol/ids.ts'
import { endpointPolicyInput, type EndpointPolicy, type Profile } from '../protocol/profile.ts'
import { line } from '../protocol/text.ts'
import type { Session } from './command.ts'
import { definedCommands } from './defined.ts'
import { checkBy, type Checked } from './definitions.ts'
import { allOf, pagesOf } from './pages.ts'

type Body = z.output<typeof endpointPolicyInput>

/** In a file a policy names its profile; an id is taken too. */
const policyInFile = z.strictObject({ ...endpointPolicyInput.shape, profileId: uuid.optional(), profile: line(128).optional(), offFabricProfile: line(128).optional() })
  .refine(({ profile, profileId }) => (profile === undefined) !== (profileId === undefined), { path: ['profile'], error: 'name the profile: either profile (its name) or profileId' })
  .refine(({ offFabricProfile: name, offFabricProfileId: id }) => name === undefined || id === undefined, { path: ['offFabricProfile'], error: 'either offFabricProfile (its name) or offFabricProfileId' })
const checkForm = checkBy(policyInFile)

function checkAgainst(profiles: readonly Profile[], value: unknown): Checked<Body> {
  const checked = checkForm(value)
  if (!checked.ok) return checked
  const { profile, profileId, offFabricProfile, offFabricProfileId, ...rest } = checked.body
  const on = find(profiles, 'profile', profile, profileId)
  const off = offFabricProfile === undefined && offFabricProfileId === undefined ? null : find(profiles, 'offFabricProfile', offFabricProfile, offFabricProfileId)
  const mistakes = [on, off].flatMap((each) => (each?.ok === false ? [each.mistake] : []))
  return mistakes.length > 0 || !on.ok ? { ok: false, mistakes } : { ok: true, body: { ...rest, profileId: on.id, ...(off?.ok === true ? { offFabricProfileId: off.id } : {}) } }
}
function find(profiles: readonly Profile[], member: string, name: string | undefined, id: string | undefined) {
  const found = profiles.filter((each) => (id === undefined ? each.name === name : each.id === id))
  const [only] = found
  if (only !== undefined && found.length === 1) return { ok: true as const, id: only.id }
  const detail = found.length === 0 ? `there is no profile "${name ?? id ?? ''}"` : `${found.length} profiles are named "${name ?? ''}"; use ${member}Id`
  return { ok: false as const, mistake: { pointer: id === undefined ? `/${member}` : `/${member}Id`, detail } }
}

function inFile({ profileId, offFabricProfileId, ...rest }: Body, profiles: readonly Profile[]) {
  const named = (member: string, wanted: string) => {
    const name = profiles.find(({ id }) => id === wanted)?.name
    return name !== undefined && profiles.filter((each) => each.name === name).length === 1 ? { [member]: name } : { [`${member}Id`]: wanted }
  }
  return { ...rest, ...named('profile', profileId), ...(offFabricProfileId === undefined ? {} : named('offFabricProfile', offFabricProfileId)) }
}

const readProfiles = ({ call }: Session) => allOf(pagesOf((query) => call(listProfiles, { query })))

export const policyCommands = definedCommands<EndpointPolicy, Body>({
  noun: 'policies', one: 'endpoint policy',
  columns: [
    { title: 'ID', cell: ({ id }) => id },
    { title: 'POSITION', cell: ({ position }) => String(position) },
    { title: 'ENABLED', cell: ({ enabled }) => (enabled ? 'yes' : 'no') },
    { title: 'GROUPS', cell: ({ groups }) => (groups.length === 0 ? 'every endpoint' : groups.join(', ')) },
    { title: 'PROFILE', cell: ({ profileId }) => profileId },
    { title: 'OFF FABRIC', cell: ({ offFabricProfileId }) => offFabricProfileId ?? 'the same' },
    { title: 'NAME', cell: ({ name }) => name },
  ],
  pages: ({ call }) => pagesOf((query) => call(listPolicies, { query })),
  bodyOf: ({ name, enabled, position, groups, profileId, offFabricProfileId }) => ({ name, enabled, position, groups, profileId, ...(offFabricProfileId === undefined ? {} : { offFabricProfileId }) }),
  create: ({ call }, body) => call(createPolicy, { body }),
  replace: ({ call }, id, body) => call(replacePolicy, { params: { id }, body }),
  remove: ({ call }, id) => call(deletePolicy, { params: { id } }),
  deleting: 'The endpoints it matched get the profile of the next policy that matches them.',
  async fileForm(session) {
    const profiles = await readProfiles(session)
    return { check: (value) => checkAgainst(profiles, value), toFile: (body) => inFile(body, profiles) }
  },
  example: { name: 'Everybody', file: 'policies.yaml' },
})
