// What an endpoint reports of itself, by section. Sections are cut by how often they change; processes and counters are in none.
import { z } from 'zod'
import { verifiedUser } from './identity.ts'
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
export const state = z.enum(['on', 'off', 'unknown'])
export type State = z.infer<typeof state>
/** What only Linux tells. An absent member was not looked at, which is unknown. */
const linuxSecurity = z.strictObject({
  rootEncryption: state.optional(),
  homeEncryption: state.optional(),
  /** Whether each lets a rule decide what comes in; a product that is not installed is `off`. */
  nftables: state.optional(),
  ufw: state.optional(),
  firewalld: state.optional(),
  unattendedUpgrades: state.optional(),
  selinux: z.enum(['enforcing', 'permissive', 'disabled', 'unknown']).optional(),
  apparmor: z.enum(['enforcing', 'complaining', 'disabled', 'unknown']).optional(),
})
const windowsSecurity = z.strictObject({
  defenderRealTime: state.optional(),
  tamperProtection: state.optional(),
  /** Fixed drives by letter; `on`: protected, not merely encrypted with the key lying beside it. */
  bitlocker: z.array(z.strictObject({ drive: z.string().regex(/^[A-Z]:$/), state, system: z.boolean() })).max(26).optional(),
  firewallDomain: state.optional(),
  firewallPrivate: state.optional(),
  firewallPublic: state.optional(),
  automaticUpdates: state.optional(),
  uac: state.optional(),
})
const macosSecurity = z.strictObject({
  fileVault: state.optional(),
  firewall: state.optional(),
  gatekeeper: state.optional(),
  systemIntegrity: state.optional(),
  automaticUpdates: state.optional(),
})
const security = z.strictObject({
  firewall: z.strictObject({ state, product: lineOrEmpty(128) }),
  diskEncryption: z.strictObject({ state, method: lineOrEmpty(128) }),
  mandatoryAccessControl: z.strictObject({ state, product: lineOrEmpty(64) }),
  automaticUpdates: z.strictObject({ state, product: lineOrEmpty(64) }),
  secureBoot: state,
  linux: linuxSecurity.optional(),
  windows: windowsSecurity.optional(),
  macos: macosSecurity.optional(),
})

/** Apart from `security`: signatures change several times a day. Every product that is installed; an empty list says that there is none. */
const antivirus = z.strictObject({
  products: z.array(z.strictObject({
    name: line(128),
    version: lineOrEmpty(64).optional(),
    /** Its engine runs and guards (real time), not merely that it is installed. */
    running: state,
    /** When its signatures were made, or last brought up to date where it does not tell. */
    signaturesAt: instant.optional(),
    signaturesVersion: lineOrEmpty(64).optional(),
    /** Who says so: `security-center`, `defender`, `clamav`. */
    source: line(32),
  })).max(16),
})

/** How far the system's updates have come. */
const updates = z.strictObject({
  /** When an update of the system was last installed. */
  installedAt: instant.optional(),
  restartPending: z.boolean().optional(),
})

/** Directories that the device and its user belong to, as the device tells. An empty list says none; an absent one is unknown. */
const directory = z.strictObject({
  joined: z.array(z.strictObject({ kind: z.enum(['active-directory', 'sssd', 'samba', 'entra', 'ldap', 'other']), domain: line(253) })).max(8).optional(),
  /** The domain that the user at the console logged in to; empty: a local account. */
  loggedInDomain: lineOrEmpty(253).optional(),
  /** Groups of that user. */
  groups: z.array(z.strictObject({ name: line(256), sid: line(190).optional() })).max(1024).optional(),
  /** How they are known: the log-on token, the name service, or a question to the directory. */
  groupsFrom: z.enum(['token', 'name-service', 'directory']).optional(),
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

export const featureName = z.string().regex(/^[a-z][a-z0-9-]{0,40}$/, 'lower-case letters, digits and hyphens')
const agent = z.strictObject({
  version: line(32),
  protocol: z.string().regex(/^\d{1,4}\.\d{1,4}\.\d{1,4}$/),
  /** The version (ms) of the profile and rules the agent runs; 0 when it has none. */
  profileVersion: instant,
  rulesVersion: instant,
  /** Features that are switched on; absent in agents that do not tell, which is unknown. */
  features: z.array(featureName).max(64).optional(),
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
/** Conditions that one agent is asked. */
export const MOST_ANSWERS = 1000
/** Answers to agent-side conditions, by the condition's key (`ck_` and 32 hex digits of the SHA-256 of its meaning). */
const verdicts = z.strictObject({
  answers: z.record(z.string().regex(/^ck_[0-9a-f]{32}$/), z.strictObject({
    value: verdictValue,
    /** What was seen, for the explanation: bounded, printable, and stable while the verdict stands (no PIDs). */
    seen: lineOrEmpty(512),
    /** When this answer last changed, by the agent's clock corrected by its learned offset. */
    at: instant,
  // As many as an agent can be asked: a device that makes up answers to questions that nobody asked is refused.
  })).refine((answers) => Object.keys(answers).length <= MOST_ANSWERS, `more than ${MOST_ANSWERS} answers`),
})

/** Whoever tells the EMS of an endpoint by its API: `sandbox`, `edr-x`, `gateway-1`. */
export const signalSource = z.string().regex(/^[a-z0-9][a-z0-9-]{0,40}$/, 'lower-case letters, digits and hyphens, 41 at most')
const told = {
  /** ms, EMS clock. */
  at: instant,
  /** From then on it says nothing any more, good or bad; null: until it is replaced. */
  expiresAt: instant.nullable(),
}
const detectionFields = { name: line(256), severity, at: instant.optional() }
/** What each kind of signal says. An empty list says: looked, and found none. */
export const signalValues = {
  sandbox: z.strictObject({ detections: z.array(z.strictObject({ ...detectionFields, sha256: sha256Hex.optional() })).max(32) }),
  threats: z.strictObject({ detections: z.array(z.strictObject({ ...detectionFields, category: lineOrEmpty(64).optional() })).max(32) }),
  scores: z.strictObject({ score: z.number().min(-1_000_000).max(1_000_000) }),
} as const
export const signalKind = z.enum(['sandbox', 'threats', 'scores'])
export type SignalKind = z.infer<typeof signalKind>
/** As many sources of one kind as an endpoint has. */
export const MAX_SIGNAL_SOURCES = 8
const bySource = <T extends z.ZodRawShape>(value: z.ZodObject<T>) => z.strictObject({ sources: z.record(signalSource, value.extend(told)) })
const sandbox = bySource(signalValues.sandbox)
const threats = bySource(signalValues.threats)
const scores = bySource(signalValues.scores)

/** Whether the device is on the fabric, by a check that a café can't answer. */
const fabric = z.strictObject({
  on: z.boolean(),
  /** The serial of the gateway that sees it, or last saw it. */
  checkedBy: line(128),
  /** Since when that gateway sees it, or when that ended. */
  checkedAt: instant, expiresAt: instant.nullable(),
  /** Since when it is on the fabric, whichever gateway saw it. */
  since: instant.optional(),
  /** No gateway sees it any more: it counts as on the fabric until then, and as off it from then on. */
  heldUntil: instant.optional(),
})

/** What agents report. */
export const reportedSections = { os, user, network, hardware, security, antivirus, updates, directory, agent, software, vulnerabilities, verdicts } as const
/** What the EMS learns by itself or is told by its API. No agent reports these or voids them; they are `proved`. */
export const emsSections = { identity: verifiedUser, fabric, sandbox, threats, scores } as const
/** Section name → shape. The order is the order of display. */
export const sections = { ...reportedSections, ...emsSections } as const
export type SectionName = keyof typeof sections
export type ReportedName = keyof typeof reportedSections
export const reportedName = z.enum(Object.keys(reportedSections) as [ReportedName, ...ReportedName[]])
export const provenanceOf = (section: SectionName): 'claimed' | 'proved' => (section in emsSections ? 'proved' : 'claimed')
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
export const sysinfoSections = ['os', 'user', 'network', 'hardware', 'security', 'antivirus', 'agent', 'identity'] as const satisfies readonly SectionName[]

/** A user's avatar: PNG or JPEG of at most 48 KiB. */
export const avatar = z.strictObject({ mediaType: z.enum(['image/png', 'image/jpeg']), image: base64(48 * 1024) })
