// An endpoint that bears its tag by one file, and what the FcmNotify of gateways tells and holds of it.
import { conditionKey } from '../../../domain/tagging/condition-key.ts'
import * as fabric from '../../../protocol/operations/fabric.ts'
import { admin, enrolled, linux, report, type Endpoint } from '../ems.ts'
import { real } from '../standing.ts'
import { by, dataOf, type Frame, type Gateway } from '../gateway.ts'

export const { DB } = real
const file = { type: 'file', negate: false, path: '/etc/marker' }
export const answer = (value: boolean) => ({ answers: { [conditionKey(file)]: { value: value ? 'true' as const : 'false' as const, seen: `${file.path} ${value}`, at: 1_790_000_000_000 } } })
export const object = ({ serial }: Gateway) => real.FCM_NOTIFY.getByName(serial)
export const tablesOf = (frame: Frame) => frame.flatMap((message) => (message.type === 'changed' ? [message.table] : []))
export const reloaded = (frame: Frame) => frame.flatMap((message) => (message.type === 'reload' ? [message.table] : []))
/** The newest watermark of the log. */
export const head = async () => {
  const row = await DB.prepare('SELECT revision, mark FROM change_log ORDER BY revision DESC LIMIT 1').first<{ revision: number; mark: string }>()
  return `${row?.revision}.${row?.mark}`
}
/** A gateway that holds every table as of a watermark. */
export const everything = (watermark: string) => Object.fromEntries(['sysinfo', 'uid_tags', 'tags', 'host_tags', 'vuln', 'avatar'].map((table) => [table, watermark]))
/** UIDs that its gateway reads, page by page to the end. */
export async function uidsRead(gateway: Gateway): Promise<Set<string>> {
  const uids = new Set<string>()
  for (let query = ''; ;) {
    const { data, updated_after: watermark, uid_offset: offset, is_final: isFinal } = dataOf(await by(gateway, 'GET', `${fabric.uidTags.get.path}${query}`)) as { data: { uid_tag_lists: object }; updated_after: string; uid_offset: string; is_final: boolean }
    for (const uid of Object.keys(data.uid_tag_lists)) uids.add(uid)
    if (isFinal) return uids
    query = `?updated_after=${watermark}&uid_offset=${offset}`
  }
}

/** Empties the records but for one rule set and that endpoint. */
export async function markedEndpoint(): Promise<Endpoint> {
  await DB.batch(['gateways', 'rule_sets', 'tags', 'gateway_subscriptions', 'endpoints', 'sightings'].map((table) => DB.prepare(`DELETE FROM ${table}`)))
  await admin('POST', '/rule-sets', { name: 'marker', tag: 'compliant', rules: { linux: { conditions: [file] } } })
  const endpoint = await enrolled()
  await report(endpoint, 1, { os: linux(), verdicts: answer(true) })
  return endpoint
}
