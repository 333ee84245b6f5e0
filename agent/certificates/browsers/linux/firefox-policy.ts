// The policy by which Firefox selects a client certificate without asking, merged into the one file that Firefox reads: what else stands there is the administrator's.
import { jsonObject, readPolicyFile, writePolicyFile, type JsonObject } from './policy-file.ts'

const PREFERENCE = 'security.default_personal_cert'
const OURS = { Value: 'Select Automatically', Status: 'locked' }
/** Firefox reads nothing beside `policies`: this says that the preference was set by us, also to an agent that has lost its state. */
const MARK = 'sallyport'

const objectIn = (value: unknown): JsonObject => {
  const read = jsonObject.safeParse(value)
  return read.success ? read.data : {}
}
const without = (object: JsonObject, name: string): JsonObject => Object.fromEntries(Object.entries(object).filter(([key]) => key !== name))
/** With the member, or without it when there is nothing in it. */
const withMember = (object: JsonObject, name: string, value: JsonObject): JsonObject => (Object.keys(value).length === 0 ? without(object, name) : { ...object, [name]: value })

/** The file as it should be; null: it should not be. An administrator's own setting of the preference stands. */
export function mergedFirefoxPolicy(before: JsonObject | null, wanted: boolean): JsonObject | null {
  const file = before ?? {}
  const policies = objectIn(file.policies)
  const preferences = objectIn(policies.Preferences)
  const marked = file[MARK] !== undefined
  if (!marked && (!wanted || preferences[PREFERENCE] !== undefined)) return before
  if (wanted) return { ...file, [MARK]: { sets: [PREFERENCE] }, policies: { ...policies, Preferences: { ...preferences, [PREFERENCE]: OURS } } }
  // Whoever changed it meanwhile has taken it over.
  const kept = JSON.stringify(preferences[PREFERENCE]) === JSON.stringify(OURS) ? without(preferences, PREFERENCE) : preferences
  const rest = withMember(without(file, MARK), 'policies', withMember(policies, 'Preferences', kept))
  return Object.keys(rest).length === 0 ? null : rest
}

/** Sets or takes back the policy in this file. Throws a `StoreFailure`. */
export async function selectInFirefox(path: string, wanted: boolean): Promise<void> {
  const before = await readPolicyFile(path)
  const after = mergedFirefoxPolicy(before, wanted)
  if (JSON.stringify(after) !== JSON.stringify(before)) await writePolicyFile(path, after)
}
