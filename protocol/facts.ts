// What an endpoint reports of itself, by section. Sections are cut by how often they change; processes and counters are in none.
import { z } from 'zod'
import { base64, hostName, instant, line, lineOrEmpty, sha256Hex } from './text.ts'

export const osType = z.enum(['linux', 'windows', 'macos'])
export type OsType = z.infer<typeof osType>

export const ipAddress = z.union([z.ipv4(), z.ipv6()])
export const macAddress = z.string().regex(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/, 'must be a MAC address like 02:00:00:00:00:01')

const os = z.strictObject({
  type: osType,
  name: line(128),
  /** As the system states it: `12.8`, `10.0.22631`, `15.1`. */
  version: lineOrEmpty(64),
  kernel: lineOrEmpty(128),
  architecture: lineOrEmpty(32),
})

export const socialId = z.strictObject({ service: line(64), accountId: line(256) })

const user = z.strictObject({
  account: line(256),
  domain: lineOrEmpty(256).optional(),
  fullName: lineOrEmpty(256).optional(),
  email: z.email().max(254).optional(),
  phone: z.string().regex(/^[+0-9 ().\-/]{1,40}$/).optional(),
  avatarFingerprint: sha256Hex.optional(),
  socialIds: z.array(socialId).max(16).optional(),
})

const network = z.strictObject({
  /** Interfaces that are up and not loopback; a disconnected adapter is no location (peers, trap 9). */
  interfaces: z.array(z.strictObject({
    name: line(64),
    mac: macAddress.optional(),
    addresses: z.array(z.strictObject({ ip: ipAddress, prefix: z.number().int().min(0).max(128) })).max(32),
  })).max(64),
  defaultGateways: z.array(z.strictObject({ ip: ipAddress, mac: macAddress.optional(), interface: line(64) })).max(16),
  dnsServers: z.array(ipAddress).max(16),
})

export const ecosystem = z.enum(['deb', 'rpm', 'apk', 'npm', 'pypi', 'windows', 'macos', 'other'])
const software = z.strictObject({
  packages: z.array(z.strictObject({
    ecosystem, name: line(256), version: lineOrEmpty(128),
    /** What it was built from, where that has another name or version: distributions name their advisories by it. */
    source: z.strictObject({ name: line(256), version: lineOrEmpty(128) }).optional(),
  })).max(20_000),
})

/** `unknown` is a fact too: it never passes a rule. */
const state = z.enum(['on', 'off', 'unknown'])
const security = z.strictObject({
  firewall: z.strictObject({ state, product: lineOrEmpty(128) }),
  diskEncryption: z.strictObject({ state, method: lineOrEmpty(128) }),
  antivirus: z.array(z.strictObject({ product: line(128), state, signaturesAt: instant.optional() })).max(16),
  mandatoryAccessControl: z.strictObject({ state, product: lineOrEmpty(64) }),
  automaticUpdates: z.strictObject({ state, product: lineOrEmpty(64) }),
  secureBoot: state,
})

const hardware = z.strictObject({
  hostName: z.union([hostName, line(253)]),
  manufacturer: lineOrEmpty(128),
  model: lineOrEmpty(128),
  serial: lineOrEmpty(128),
  cpu: lineOrEmpty(128),
  cores: z.number().int().min(0).max(4096),
  memoryBytes: z.number().int().min(0),
})

const agent = z.strictObject({
  version: line(32),
  protocol: z.string().regex(/^\d{1,4}\.\d{1,4}\.\d{1,4}$/),
  /** The version (ms) of the profile and rules the agent runs; 0 when it has none. */
  profileVersion: instant,
  rulesVersion: instant,
})

export const severity = z.enum(['unrated', 'info', 'low', 'medium', 'high', 'critical'])
export type Severity = z.infer<typeof severity>
const vulnerabilities = z.strictObject({
  scannedAt: instant,
  scanner: line(128),
  found: z.array(z.strictObject({ id: line(64), name: line(256), severity, package: lineOrEmpty(256) })).max(5_000),
})

export const verdictValue = z.enum(['true', 'false', 'unknown', 'unsupported'])
export type VerdictValue = z.infer<typeof verdictValue>
/** Answers to agent-side conditions, by the condition's key (`ck_` and 32 hex digits of the SHA-256 of its meaning). */
const verdicts = z.strictObject({
  answers: z.record(z.string().regex(/^ck_[0-9a-f]{32}$/), z.strictObject({
    value: verdictValue,
    /** What was seen, for the explanation: bounded, printable, and stable while the verdict stands (no PIDs). */
    seen: lineOrEmpty(512),
    /** When this answer last changed, by the agent's clock corrected by its learned offset. */
    at: instant,
  })),
})

/** Section name → shape. The order is the order of display. */
export const sections = { os, user, network, hardware, security, agent, software, vulnerabilities, verdicts } as const
export type SectionName = keyof typeof sections
export const sectionNames = Object.keys(sections) as [SectionName, ...SectionName[]]
export const sectionName = z.enum(sectionNames)
export type Sections = { [S in SectionName]: z.infer<(typeof sections)[S]> }

/** One section as stored: its value, when the EMS took it, and how it is known. */
export interface Fact<S extends SectionName = SectionName> {
  readonly value: Sections[S]
  /** ms, EMS clock. */
  readonly at: number
  readonly provenance: 'claimed' | 'proved'
}
/** All that is known of an endpoint. A missing section is unknown, not empty. */
export type Facts = { readonly [S in SectionName]?: Fact<S> }

/** Sections that the fabric's sysinfo record shows: a change in one of them is a change of `sysinfo`. */
export const sysinfoSections = ['os', 'user', 'network', 'hardware', 'security', 'agent'] as const satisfies readonly SectionName[]

/** A user's avatar: PNG or JPEG of at most 48 KiB. */
export const avatar = z.strictObject({ mediaType: z.enum(['image/png', 'image/jpeg']), image: base64(48 * 1024) })
