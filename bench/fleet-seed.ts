// Writes a fleet straight into D1: small facts, as reports would have left them, worked out with the rules as they are. No agent ever spoke for these endpoints.
import { createHash } from 'node:crypto'
import { deflateRawSync } from 'node:zlib'
import canonicalize from 'canonicalize'
import type { Miniflare } from 'miniflare'
import { compileRules } from '../domain/tagging/compile.ts'
import { evaluateEndpoint } from '../domain/tagging/evaluate.ts'
import type { Facts, Sections } from '../protocol/facts.ts'
import type { RuleSet } from '../protocol/rules.ts'

/** Systems of the fleet: the first `edit` endpoints by UID have the old one. */
export const OLD = '10.0.19045'
export const NEW = '10.0.26100'
const AT_ONCE = 1_000

type Database = Awaited<ReturnType<Miniflare['getD1Database']>>

/** UIDs of a fleet, ascending; the same in every run. */
export const fleetUids = (count: number): string[] => Array.from({ length: count }, (_, n) => createHash('sha256').update(`endpoint ${n}`).digest('hex').slice(0, 32)).sort()

const osOf = (version: string): Sections['os'] => ({ type: 'windows', name: 'Windows', version, kernel: version, architecture: 'x64' })
const sectionsOf = (n: number, version: string): Partial<Sections> => ({
  os: osOf(version),
  user: { account: `user-${n}`, fullName: `User ${n}`, email: `user-${n}@example.com` },
  network: { interfaces: [{ name: 'Ethernet', mac: macOf(n), addresses: [{ ip: ipOf(n), prefix: 8 }] }], defaultGateways: [{ ip: '10.0.0.1', interface: 'Ethernet' }], dnsServers: ['10.0.0.1'] },
  hardware: { hostName: `laptop-${n}`, manufacturer: 'Example', model: 'Book 14', serial: `E${n}`, cpu: 'Example CPU @ 2.40GHz', cores: 8, memoryBytes: 17_179_869_184 },
  agent: { version: '0.1.0', protocol: '7.0.0', profileVersion: 1, rulesVersion: 1 },
})
const hexOf = (n: number, digits: number) => n.toString(16).padStart(digits, '0')
const macOf = (n: number) => `02:00:${(hexOf(n, 8).match(/../g) ?? []).join(':')}`
const ipOf = (n: number) => `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`

/** What the rules say of one of each kind: all of a kind are alike. */
function verdictsOf(ruleSets: readonly RuleSet[], revision: number, now: number, version: string): { verdicts: string; tags: readonly { tagUid: string; state: string }[] } {
  const facts: Facts = { os: { value: osOf(version), at: now, provenance: 'claimed' } }
  const { verdicts, tags } = evaluateEndpoint({ rules: compileRules(ruleSets, revision), facts, changed: 'all', previous: {}, now })
  return { verdicts: JSON.stringify(verdicts), tags }
}

const endpointRows = `INSERT INTO endpoints (uid, registered, online, group_name, host_name, os, account, agent_version, protocol, enrolled_at, last_report_at, sequence, rules_revision, verdicts, tags, certificates, addresses)
  SELECT json_extract(value, '$.uid'), 1, 1, 'fleet', json_extract(value, '$.host'), 'windows', json_extract(value, '$.account'), '0.1.0', '7.0.0', ?2, ?2, 1, ?3,
    json_extract(value, '$.verdicts'), json_extract(value, '$.tags'), json_extract(value, '$.certificates'), json_extract(value, '$.addresses') FROM json_each(?1)`
const sectionRows = `INSERT INTO endpoint_sections (uid, section, hash, at, body)
  SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), ?2, unhex(json_extract(value, '$[3]')) FROM json_each(?1)`
const tagRows = `INSERT INTO endpoint_tags (tag_uid, uid, state, valid_until, since) SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), NULL, ?2 FROM json_each(?1)`

/** A row of the log that belongs to nobody: who holds the world of before can't continue from there. */
const logRow = `INSERT INTO change_log (mark, at, tables) VALUES (lower(hex(randomblob(8))), ?1, '')`

/** @param edit so many, the first by UID, have the old system */
export async function seedFleet(database: Database, { uids, edit, ruleSets, now }: { uids: readonly string[]; edit: number; ruleSets: readonly RuleSet[]; now: number }): Promise<void> {
  const state = await database.prepare('SELECT revision FROM rules_state WHERE id = 1').first<{ revision: number }>()
  const revision = state?.revision ?? 0
  const kinds = { [OLD]: verdictsOf(ruleSets, revision, now, OLD), [NEW]: verdictsOf(ruleSets, revision, now, NEW) }
  for (let from = 0; from < uids.length; from += AT_ONCE) {
    const page = uids.slice(from, from + AT_ONCE).map((uid, at) => ({ uid, n: from + at, version: from + at < edit ? OLD : NEW } as const))
    const endpoints = page.map(({ uid, n, version }) => {
      const { verdicts, tags } = kinds[version]
      const certificates = [{ serial: createHash('sha1').update(uid).digest('hex'), purpose: 'agent', user: '', notAfter: now + 20 * 86_400_000, keyHash: createHash('sha256').update(uid).digest('hex') }]
      return { uid, host: `laptop-${n}`, account: `user-${n}`, verdicts, tags: JSON.stringify(tags), certificates: JSON.stringify(certificates), addresses: JSON.stringify({ ips: [ipOf(n)], macs: [macOf(n)] }) }
    })
    const sections = page.flatMap(({ uid, n, version }) => Object.entries(sectionsOf(n, version)).map(([name, value]) => {
      const text = canonicalize(value) ?? ''
      return [uid, name, createHash('sha256').update(text).digest('hex'), deflateRawSync(text).toString('hex')]
    }))
    const tags = page.flatMap(({ uid, version }) => kinds[version].tags.map(({ tagUid, state }) => [tagUid, uid, state]))
    await database.batch([
      database.prepare(endpointRows).bind(JSON.stringify(endpoints), now, revision),
      database.prepare(sectionRows).bind(JSON.stringify(sections), now),
      database.prepare(tagRows).bind(JSON.stringify(tags), now),
    ])
  }
  await database.prepare(logRow).bind(now).run()
}
