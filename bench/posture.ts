// What a laptop of the benchmarks reports: every section in a size that real ones have, always the same.
import type { ReportedName, Sections } from '../protocol/facts.ts'

const PACKAGES = 1_500
const hour = 3_600_000

/** All sections but the answers to agent-side conditions. */
export const posture: { [S in Exclude<ReportedName, 'verdicts'>]: Sections[S] } = {
  os: { type: 'linux', name: 'Debian GNU/Linux', version: '12.8', kernel: '6.1.0-28-amd64', architecture: 'x64' },
  user: { account: 'user', fullName: 'A User', email: 'user@example.com', phone: '+1 555 0100', socialIds: [{ service: 'LinkedIn', accountId: 'a-user' }] },
  network: {
    interfaces: ['eth0', 'wlan0'].map((name, n) => ({ name, mac: `02:00:00:00:00:0${n}`, addresses: [{ ip: `192.0.2.${10 + n}`, prefix: 24 }, { ip: `2001:db8::${10 + n}`, prefix: 64 }] })),
    defaultGateways: [{ ip: '192.0.2.1', mac: '02:00:00:00:00:ff', interface: 'eth0' }], dnsServers: ['192.0.2.1', '2001:db8::1'],
  },
  hardware: { hostName: 'laptop', manufacturer: 'Example', model: 'Book 14', serial: 'E0001', cpu: 'Example CPU @ 2.40GHz', cores: 8, memoryBytes: 17_179_869_184 },
  security: {
    firewall: { state: 'on', product: 'nftables' }, diskEncryption: { state: 'on', method: 'LUKS2' },
    mandatoryAccessControl: { state: 'on', product: 'AppArmor' }, automaticUpdates: { state: 'on', product: 'unattended-upgrades' }, secureBoot: 'on',
  },
  antivirus: { products: [{ name: 'ClamAV', running: 'on', signaturesAt: 488_000 * hour, source: 'clamav' }] },
  updates: { installedAt: 488_000 * hour, restartPending: false },
  directory: { joined: [{ kind: 'sssd', domain: 'corp.example.com' }], loggedInDomain: 'corp.example.com', groups: ['staff', 'vpn', 'developers'].map((name) => ({ name })), groupsFrom: 'name-service' },
  agent: { version: '0.1.0', protocol: '7.0.0', profileVersion: 1, rulesVersion: 1 },
  // Names and versions that differ, as real ones do: what repeats would deflate to nothing.
  software: { packages: Array.from({ length: PACKAGES }, (_, n) => ({ ecosystem: 'deb' as const, name: `lib${(n * 2_654_435_761 % 0xffff_ffff).toString(36)}-${n}`, version: `${n % 9}.${n % 31}.${n % 7}-${n % 5}+deb12u${n % 3}` })) },
  vulnerabilities: {
    scannedAt: 488_000 * hour, scanner: 'example',
    found: Array.from({ length: 20 }, (_, n) => ({ id: `CVE-2026-${10_000 + n}`, name: `flaw ${n}`, severity: n === 0 ? 'high' as const : 'low' as const, package: `lib-${n}` })),
  },
}
