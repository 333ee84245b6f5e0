// One example of every type of condition, and of what differs within a type, with facts that make it true: the tests that walk the registry speak of them.
import { conditionKey } from '../../../domain/tagging/condition-key.ts'
import { provenanceOf, type Fact, type Facts, type OsType, type SectionName, type Sections } from '../../../protocol/facts.ts'
import type { Condition } from '../../../protocol/rules.ts'
import { now } from './endpoint-facts.ts'

export interface Example { readonly condition: Condition; readonly os: OsType; readonly facts: Facts }
export const fact = <S extends SectionName>(section: S, value: Sections[S], at = now - 1000): { readonly [K in S]: Fact<S> } => ({ [section]: { value, at, provenance: provenanceOf(section) } }) as { readonly [K in S]: Fact<S> }
export const osOf = (type: OsType, version = '12.8') => fact('os', { type, name: type === 'linux' ? 'Debian GNU/Linux' : type, version, kernel: '', architecture: 'x64' })
export const asked = (type: string, params: Record<string, unknown> = {}): Condition => ({ type, negate: false, ...params })
const hour = 3_600_000

const general = { firewall: { state: 'on', product: '' }, diskEncryption: { state: 'on', method: '' }, mandatoryAccessControl: { state: 'on', product: '' }, automaticUpdates: { state: 'on', product: '' }, secureBoot: 'on' } as const
export const secured = {
  linux: fact('security', { ...general, linux: { rootEncryption: 'on', homeEncryption: 'on', nftables: 'on', ufw: 'off', firewalld: 'off', unattendedUpgrades: 'on', selinux: 'enforcing', apparmor: 'enforcing' } }),
  windows: fact('security', { ...general, windows: { defenderRealTime: 'on', tamperProtection: 'on', bitlocker: [{ drive: 'C:', state: 'on', system: true }, { drive: 'D:', state: 'on', system: false }], firewallDomain: 'on', firewallPrivate: 'on', firewallPublic: 'on', automaticUpdates: 'on', uac: 'on' } }),
  macos: fact('security', { ...general, macos: { fileVault: 'on', firewall: 'on', gatekeeper: 'on', systemIntegrity: 'on', automaticUpdates: 'on' } }),
}
export const checks = {
  linux: ['root-encryption', 'home-encryption', 'firewall', 'unattended-upgrades', 'selinux-enforcing', 'apparmor-enforcing', 'mandatory-access-control', 'secure-boot'],
  windows: ['defender-real-time', 'tamper-protection', 'bitlocker-system', 'bitlocker-all', 'firewall', 'firewall-domain', 'firewall-private', 'firewall-public', 'automatic-updates', 'uac', 'secure-boot'],
  macos: ['filevault', 'firewall', 'gatekeeper', 'system-integrity', 'automatic-updates'],
} as const
const told = { at: now - hour, expiresAt: now + hour }
const detection = { name: 'EICAR', severity: 'high' } as const
const identity = fact('identity', { issuer: 'https://id.example.com', subject: 'u1', email: 'alice@example.com', groups: ['staff'], authenticatedAt: now - hour, expiresAt: now + hour })
const directory = fact('directory', { joined: [{ kind: 'active-directory', domain: 'corp.example.com' }], loggedInDomain: 'corp.example.com', groups: [{ name: 'CORP\\staff', sid: 'S-1-5-21-1-2-3-1104' }], groupsFrom: 'token' })
const products = fact('antivirus', { products: [{ name: 'ClamAV', running: 'on', signaturesAt: now - hour, source: 'clamav' }] })
const agent = fact('agent', { version: '1.4.0', protocol: '7.0.0', profileVersion: 0, rulesVersion: 0, features: ['tunnel'] })
const flawed = fact('vulnerabilities', { scannedAt: now - hour, scanner: 'osv', found: [{ id: 'CVE-2026-1', name: 'x', severity: 'high', package: 'p' }] })
const network = fact('network', { interfaces: [{ name: 'eth0', addresses: [{ ip: '10.1.2.3', prefix: 24 }] }], defaultGateways: [], dnsServers: [] })

const on = (os: OsType, condition: Condition, facts: Facts): Example => ({ condition, os, facts: { ...osOf(os), ...facts } })
const linux = (condition: Condition, facts: Facts): Example => on('linux', condition, facts)
const answered = (os: OsType, condition: Condition): Example => on(os, condition, fact('verdicts', { answers: { [conditionKey(condition)]: { value: 'true', seen: 'as the agent saw it', at: now - 2000 } } }))
const expression = (source: string, facts: Facts): Example => linux(asked('custom', { expression: source }), facts)

export const examples: readonly Example[] = [
  linux(asked('ad-group', { groups: ['corp\\STAFF'] }), directory), on('windows', asked('ad-group', { groups: ['x', 'S-1-5-21-1-2-3-1104'] }), directory),
  linux(asked('agent-feature', { feature: 'tunnel' }), agent), linux(asked('agent-version', { comparator: '>=', version: '1.3' }), agent),
  linux(asked('antivirus'), products), linux(asked('antivirus', { product: 'clam', running: true, signaturesNotOlderThanSeconds: 86_400 }), products),
  answered('linux', asked('certificate', { subject: { like: '*CN=laptop-*' }, issuer: { matches: '^O=Example, CN=CA \\d+$' }, keyUsage: ['clientAuth'], privateKey: true })),
  linux(asked('cve', { ids: ['cve-2026-1', 'CVE-2026-2'] }), flawed), linux(asked('cve', { ids: ['CVE-2026-1'], scannedWithinSeconds: 86_400 }), flawed),
  linux(asked('ems-management'), agent), answered('linux', asked('file', { path: '/etc/marker' })), answered('linux', asked('file', { path: '/etc/marker', sha256: 'a'.repeat(64) })), answered('linux', asked('file', { path: '/etc/marker', exists: false })),
  linux(asked('firewall-threat', { severity: 'high' }), fact('threats', { sources: { 'gateway-1': { detections: [detection], ...told } } })),
  linux(asked('ip-range', { ranges: ['10.0.0.0/8'] }), network), linux(asked('logged-in-domain', { domains: ['CORP.example.com'] }), directory),
  linux(asked('on-fabric'), fact('fabric', { on: true, checkedBy: 'gateway-1', checkedAt: now - hour, expiresAt: now + hour })),
  linux(asked('os-version', { comparator: '>=', version: '12' }), {}), linux(asked('os-version', { comparator: '=', version: '12.8', name: 'Debian' }), {}), linux(asked('os-version', { updatedWithinDays: 3 }), fact('updates', { installedAt: now - 24 * hour })),
  answered('windows', asked('registry-key', { key: 'HKEY_LOCAL_MACHINE\\SOFTWARE\\Example', name: 'Level', comparator: '>=', value: '3' })), answered('windows', asked('registry-key', { key: 'HKEY_LOCAL_MACHINE\\SOFTWARE\\Example' })),
  answered('linux', asked('running-process', { name: 'sshd' })), answered('linux', asked('running-process', { name: 'sshd', path: '/usr/sbin/sshd', sha256: 'b'.repeat(64) })),
  linux(asked('sandbox-detection', { source: 'sandbox' }), fact('sandbox', { sources: { sandbox: { detections: [detection], ...told } } })),
  linux(asked('third-party-score', { source: 'edr', comparator: '>=', score: 70 }), fact('scores', { sources: { edr: { score: 71.5, ...told } } })),
  linux(asked('user-identity', { users: ['ALICE'] }), fact('user', { account: 'alice', email: 'alice@example.com' })),
  linux(asked('user-identity', { verified: true, users: ['Alice@example.com'], groups: ['staff'], issuer: 'https://id.example.com', authenticatedWithinSeconds: 7200 }), identity), linux(asked('user-identity', { verified: true }), identity),
  linux(asked('vulnerable-devices', { severity: 'high' }), flawed), linux(asked('vulnerable-devices', { severity: 'medium', scannedWithinSeconds: 86_400 }), flawed),
  ...(['linux', 'windows', 'macos'] as const).flatMap((os) => checks[os].map((check) => on(os, asked(`${os}-security`, { check }), secured[os]))),
  expression('security.secureBoot == "on" && versionAtLeast(os.version, "12.1")', secured.linux),
  expression('antivirus.products.exists(p, p.name.startsWith("Clam") && p.running == "on" && within(p.signaturesAt, 86400))', products),
  expression('scores.sources.edr.score > 70 || "lenient" in scores.sources', fact('scores', { sources: { edr: { score: 71.5, ...told } } })),
  expression('network.interfaces.exists(i, i.addresses.exists(a, a.ip.matches("^10\\\\.")))', network),
  expression('size(vulnerabilities.found.filter(v, severityAtLeast(v.severity, "high"))) == 1 && !vulnerabilities.found.all(v, v.severity == "low")', flawed),
]
