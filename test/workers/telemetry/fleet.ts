// A fleet that is written straight into the database: many endpoints that have reported small facts, and rule sets over them.
import canonicalize from 'canonicalize'
import { toHex, utf8 } from '../../../identity/encoding.ts'
import { sha256Hex } from '../../../identity/keys.ts'
import type { Sections } from '../../../protocol/facts.ts'
import { packSection } from '../../../workers/flows/facts.ts'
import { admin } from '../ems.ts'
import { real } from '../standing.ts'

const { DB } = real
export const uidOf = (n: number) => n.toString(16).padStart(32, '0')
export const network = (ip: string): Sections['network'] => ({ interfaces: [{ name: 'eth0', addresses: [{ ip, prefix: 24 }] }], defaultGateways: [], dnsServers: [] })

/** Endpoints `first` to `first + count - 1`, each with these sections. */
export async function seed(first: number, count: number, sections: Partial<Sections>): Promise<void> {
  const rows = JSON.stringify(Array.from({ length: count }, (_, n) => uidOf(first + n)))
  const system = sections.os?.type ?? 'linux'
  const statements = await Promise.all(Object.entries(sections).map(async ([section, value]) => {
    const canonical = canonicalize(value) ?? ''
    return DB.prepare('INSERT INTO endpoint_sections (uid, section, hash, at, body) SELECT value, ?, ?, 1, unhex(?) FROM json_each(?)').bind(section, await sha256Hex(utf8(canonical)), toHex(packSection(canonical)), rows)
  }))
  await DB.batch([
    DB.prepare('INSERT INTO endpoints (uid, version, registered, group_name, host_name, os, agent_version, protocol, enrolled_at, last_report_at) SELECT value, 1, 1, \'\', \'laptop\', ?, \'0.1.0\', \'7.0.0\', 1, 1 FROM json_each(?)').bind(system, rows),
    ...statements,
  ])
}

export const addGateway = (serial: string) => DB.prepare('INSERT INTO gateways (serial, name, state, reason, key_hash, fingerprint, csr, joined_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)').bind(serial, 'gw', 'authorised', '', serial, '', '', 0).run()

/** Tables of endpoints and rules, emptied. */
export const clear = () => DB.batch(['endpoints', 'endpoint_sections', 'endpoint_tags', 'rule_sets', 'rule_changes', 'tags', 'rules_state', 'gateways'].map((table) => DB.prepare(`DELETE FROM ${table}`)))

/** How many endpoints have the tag of that name, by state. */
export async function tagged(tag: string): Promise<Record<string, number>> {
  const { results } = await DB.prepare('SELECT t.state, count(*) AS n FROM endpoint_tags t JOIN tags g ON g.uid = t.tag_uid WHERE g.name = ? GROUP BY t.state').bind(tag).all<{ state: string; n: number }>()
  return Object.fromEntries(results.map(({ state, n }) => [state, n]))
}

/** A condition that agents are asked. */
export const asking = (path: string) => ({ type: 'file', negate: false, path })
export const osAtLeast = (version: string) => ({ type: 'os-version', comparator: '>=', version })
export const ruleSetOf = (tag: string, conditions: object[], more: object = {}) => ({ name: tag, tag, rules: { linux: { conditions } }, ...more })
export async function addRuleSet(tag: string, conditions: object[], more: object = {}): Promise<string> {
  const { status, json } = await admin('POST', '/rule-sets', ruleSetOf(tag, conditions, more))
  if (status !== 200) throw new Error(JSON.stringify(json))
  return String(json.id)
}

/** What no reader may ever see: rows of tags that are not the endpoint's, or an entry of the log that is not its row. */
export async function contradictions(): Promise<unknown[]> {
  const { results } = await DB.prepare(`
    SELECT e.uid, e.tags, (SELECT json_group_array(json_object('tagUid', tag_uid, 'state', state, 'validUntil', valid_until)) FROM (SELECT * FROM endpoint_tags t WHERE t.uid = e.uid ORDER BY tag_uid)) AS rows,
      (SELECT json_extract(entry, '$.tags') FROM change_log c WHERE c.uid = e.uid ORDER BY revision DESC LIMIT 1) AS logged
    FROM endpoints e`).all<{ uid: string; tags: string; rows: string; logged: string | null }>()
  return results.filter(({ tags, rows, logged }) => tags !== rows || (logged !== null && logged !== tags))
}
