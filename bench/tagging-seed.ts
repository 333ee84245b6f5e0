// Writes a fleet of ten small sections each straight into D1, worked out with the rules as they are. No agent ever spoke for these endpoints.
import { createHash } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import { deflateRawSync } from 'node:zlib'
import canonicalize from 'canonicalize'
import type { Miniflare } from 'miniflare'
import { compileRules } from '../domain/tagging/compile.ts'
import { evaluateEndpoint } from '../domain/tagging/evaluate.ts'
import type { Facts, OsType, Sections } from '../protocol/facts.ts'
import type { RuleSet } from '../protocol/rules.ts'
import { answered } from './tagging-rules.ts'

/** One in fifty has the build before: an edit from this to the next takes the tag of those. */
export const [OLD_BUILD, NEXT_BUILD] = ['10.0.22000', '10.0.22001'] as const
const BUILDS = 50
/** What verdicts depend on repeats; what they do not is each endpoint's own. */
const KINDS = BUILDS * 7 * 5
const AT_ONCE = 500
const DAY_MS = 86_400_000

type Database = Awaited<ReturnType<Miniflare['getD1Database']>>
/** Nine in ten are Windows. */
const osOf = (n: number): OsType => ([10, 20].includes(n % BUILDS) ? 'linux' : [30, 40, 45].includes(n % BUILDS) ? 'macos' : 'windows')
const state = (on: boolean) => (on ? 'on' as const : 'off' as const)

/** What the n-th laptop reports. */
export function laptopOf(n: number, now: number): Partial<Sections> {
  const [type, firewall] = [osOf(n), state(n % 7 !== 0)]
  const version = type === 'windows' ? `10.0.${22_000 + n % BUILDS}` : type === 'linux' ? `${11 + n % 7 % 3}.${n % 5}` : `${13 + n % 7 % 3}.${n % 5}`
  return {
    os: { type, name: { windows: 'Windows 11', linux: 'Debian GNU/Linux', macos: 'macOS' }[type], version, kernel: version, architecture: 'x64' },
    user: { account: `user-${n}`, fullName: `User ${n}`, email: `user-${n}@example.com` },
    network: { interfaces: [{ name: 'Ethernet', mac: `02:00:${(n.toString(16).padStart(8, '0').match(/../g) ?? []).join(':')}`, addresses: [{ ip: ipOf(n), prefix: 8 }] }], defaultGateways: [{ ip: '10.0.0.1', interface: 'Ethernet' }], dnsServers: ['10.0.0.1'] },
    hardware: { hostName: `laptop-${n}`, manufacturer: 'Example', model: 'Book 14', serial: `E${n}`, cpu: 'Example CPU @ 2.40GHz', cores: 8, memoryBytes: 17_179_869_184 },
    security: {
      firewall: { state: firewall, product: 'firewall' }, diskEncryption: { state: 'on', method: 'full' }, mandatoryAccessControl: { state: 'unknown', product: '' }, automaticUpdates: { state: 'on', product: 'updates' }, secureBoot: 'on',
      windows: { defenderRealTime: 'on', tamperProtection: 'on', bitlocker: [{ drive: 'C:', state: state(n % 35 !== 0), system: true }], firewallDomain: firewall, firewallPrivate: firewall, firewallPublic: firewall, automaticUpdates: 'on', uac: 'on' },
    },
    antivirus: { products: [{ name: 'Defender Antivirus', version: '4.18', running: state(n % 5 !== 0), signaturesAt: now - DAY_MS - (n % 5) * 3_600_000, signaturesVersion: `1.400.${n % 5}`, source: 'security-center' }] },
    updates: { installedAt: now - (n % 5) * DAY_MS, restartPending: false },
    directory: { joined: [{ kind: 'active-directory', domain: 'corp.example.com' }], loggedInDomain: 'corp.example.com', groups: ['staff', 'vpn', `group ${n % 5}`].map((name) => ({ name })), groupsFrom: 'token' },
    agent: { version: '0.3.0', protocol: '7.0.0', profileVersion: 1, rulesVersion: 1 },
    verdicts: { answers: Object.fromEntries(answered.map(({ key }, which) => [key, { value: which < 5 ? 'true' as const : 'false' as const, seen: which < 5 ? 'running' : 'not running', at: now - DAY_MS }])) },
  }
}
const ipOf = (n: number) => `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`

const endpointRows = `INSERT INTO endpoints (uid, version, registered, online, group_name, host_name, os, account, agent_version, protocol, enrolled_at, last_report_at, sequence, rules_revision, verdicts, tags, next_due, certificates, addresses)
  SELECT json_extract(value, '$.uid'), 1, 1, 1, 'fleet', json_extract(value, '$.host'), json_extract(value, '$.os'), json_extract(value, '$.account'), '0.3.0', '7.0.0', ?2, ?2, 1, ?3,
    json_extract(value, '$.verdicts'), json_extract(value, '$.tags'), json_extract(value, '$.due'), json_extract(value, '$.certificates'), json_extract(value, '$.addresses') FROM json_each(?1)`
const sectionRows = `INSERT INTO endpoint_sections (uid, section, hash, at, body)
  SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), ?2, unhex(json_extract(value, '$[3]')) FROM json_each(?1)`
const tagRows = `INSERT INTO endpoint_tags (tag_uid, uid, state, valid_until, since) SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'), ?2 FROM json_each(?1)`

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')

/** Endpoints in the order of their UIDs. */
export async function seedTaggingFleet(database: Database, { uids, ruleSets, now, progress }: { uids: readonly string[]; ruleSets: readonly RuleSet[]; now: number; progress: (sentence: string) => void }): Promise<void> {
  const revision = (await database.prepare('SELECT revision FROM rules_state WHERE id = 1').first<{ revision: number }>())?.revision ?? 0
  const rules = compileRules(ruleSets, revision)
  const kinds = new Map<number, { verdicts: string; tags: ReturnType<typeof evaluateEndpoint>['tags']; due: number | null }>()
  const packed = new Map<string, readonly [hash: string, body: string]>()
  const pack = (text: string) => {
    const found = packed.get(text) ?? [sha256(text), deflateRawSync(text).toString('hex')] as const
    if (packed.size < 20_000) packed.set(text, found)
    return found
  }
  for (let from = 0; from < uids.length; from += AT_ONCE) {
    if (from % 10_000 === 0) progress(`tagging: endpoints ${from} of ${uids.length} written into D1`)
    const page = uids.slice(from, from + AT_ONCE).map((uid, at) => {
      const sections = laptopOf(from + at, now)
      const kind = (from + at) % KINDS
      const worked = kinds.get(kind) ?? workedOut(sections)
      kinds.set(kind, worked)
      return { uid, n: from + at, sections, worked }
    })
    const endpoints = page.map(({ uid, n, worked: { verdicts, tags, due } }) => {
      const certificates = [{ serial: sha256(uid).slice(0, 40), purpose: 'agent', user: '', notAfter: now + 20 * DAY_MS, keyHash: sha256(uid) }]
      return { uid, os: osOf(n), host: `laptop-${n}`, account: `user-${n}`, verdicts, tags: JSON.stringify(tags), due, certificates: JSON.stringify(certificates), addresses: JSON.stringify({ ips: [ipOf(n)], macs: [] }) }
    })
    const bodies = page.flatMap(({ uid, sections }) => Object.entries(sections).map(([name, value]) => [uid, name, ...pack(canonicalize(value) ?? '')]))
    // So long without a word, and the connection may have been closed: only a turn of the loop tells.
    await setImmediate()
    await database.batch([
      database.prepare(endpointRows).bind(JSON.stringify(endpoints), now, revision),
      database.prepare(sectionRows).bind(JSON.stringify(bodies), now),
      database.prepare(tagRows).bind(JSON.stringify(page.flatMap(({ uid, worked: { tags } }) => tags.map((tag) => [tag.tagUid, uid, tag.state, tag.validUntil]))), now),
    ])
  }
  function workedOut(sections: Partial<Sections>) {
    const facts = Object.fromEntries(Object.entries(sections).map(([name, value]) => [name, { value, at: now, provenance: 'claimed' }])) as Facts
    const { verdicts, tags, nextDue } = evaluateEndpoint({ rules, facts, changed: 'all', previous: {}, now })
    return { verdicts: JSON.stringify(verdicts), tags, due: nextDue }
  }
}
