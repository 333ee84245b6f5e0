// Tags that are set and cleared as an administrator does it, and how they stand on an endpoint.
import { admin, enrolled, linux, report, type Endpoint } from '../ems.ts'
import { real } from '../standing.ts'

export const HOUR = 3_600_000
export const make = async (name: string, type: 3 | 4) => String((await admin('POST', '/tags', { name, type })).json.uid)
export const set = (tag: string, uids: readonly string[], body: object = {}) => admin('POST', `/tags/${tag}/assign`, { uids, ...body })
export const clear = (tag: string, uids: readonly string[], body: object = {}) => admin('POST', `/tags/${tag}/clear`, { uids, ...body })
export const importance = (uids: readonly string[], level: string | null) => admin('POST', '/importance', { uids, importance: level })
export const explained = async ({ uid }: Endpoint, tag: string) => (await admin('GET', `/endpoints/${uid}/tags/${tag}`)).json
export const tagsOf = async ({ uid }: Endpoint) => ((await admin('GET', `/endpoints/${uid}`)).json.tags as { tagUid: string; state: string; validUntil: number | null }[])
export const bears = async (endpoint: Endpoint, tag: string) => (await tagsOf(endpoint)).some(({ tagUid, state }) => tagUid === tag && state === 'present')
export const namesOf = async (endpoint: Endpoint) => {
  const all = (await admin('GET', '/tags?limit=200')).json.items as { uid: string; name: string }[]
  return (await tagsOf(endpoint)).map(({ tagUid }) => all.find(({ uid }) => uid === tagUid)?.name ?? tagUid).sort()
}
/** An endpoint that has reported its system. */
export const reporting = async () => {
  const endpoint = await enrolled()
  await report(endpoint, 1, { os: linux() })
  return endpoint
}
/** No rule sets, tags, endpoints or gateways. */
export const cleared = () => real.DB.batch(['rule_sets', 'rule_changes', 'tags', 'endpoint_tags', 'endpoints', 'gateways'].map((table) => real.DB.prepare(`DELETE FROM ${table}`)))
