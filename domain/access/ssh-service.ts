// What a TCP service says of SSH behind it: who gets which certificate, and by which keys its hosts are known.
import ipaddr from 'ipaddr.js'
import { z } from 'zod'
import { issuer } from '../../protocol/identity.ts'
import { hostName, line } from '../../protocol/text.ts'
import { normalAddress } from './host.ts'
import { keyLine, readKeyLine } from './ssh-key.ts'
import { principalShape } from './ssh-principals.ts'

const AUTHORITY = '@cert-authority '
const fingerprint = /^SHA256:[A-Za-z0-9+/]{43}$/
/** A host's public key as OpenSSH writes it, the SHA-256 of one, or `@cert-authority` and the key of a CA whose certificates hosts show. */
const hostKey = line(4_096).refine((text) => fingerprint.test(text) || readKeyLine(text.startsWith(AUTHORITY) ? text.slice(AUTHORITY.length) : text) !== null, 'must be a public key like ssh-ed25519 AAAA…, a fingerprint like SHA256:…, or @cert-authority and a public key')

/** An address or range as sshd compares it: with bits beyond its prefix it would refuse everybody. */
function sourceRange(text: string): string | null {
  if (text.includes('%')) return null
  if (!text.includes('/')) return normalAddress(text)
  if (!ipaddr.isValidCIDR(text)) return null
  const [address, bits] = ipaddr.parseCIDR(text)
  const network = address.kind() === 'ipv4' ? ipaddr.IPv4.networkAddressFromCIDR(text) : ipaddr.IPv6.networkAddressFromCIDR(text)
  return address.toString() === network.toString() ? `${network.toString()}/${bits}` : null
}

const extensions = ['permit-pty', 'permit-port-forwarding', 'permit-agent-forwarding', 'permit-X11-forwarding', 'permit-user-rc', 'no-touch-required'] as const

export const sshEntry = z.strictObject({
  /** What of the verified user is the login name. `email-name` is what stands before the @, of e-mails of `emailDomains` alone. */
  principal: z.enum(['email', 'email-name', 'subject']).default('email'),
  emailDomains: z.array(hostName).max(64).default([]),
  /** Identity providers whose users get a certificate; none named: each that the EMS believes. */
  issuers: z.array(issuer).max(16).default([]),
  /** Further login names, for everybody whom the policies let in. Names of system accounts, root too, are given only when they stand here. */
  principals: z.array(z.string().regex(principalShape, 'must be a login name')).max(15).default([]),
  certificateSeconds: z.number().int().min(60).max(86_400).default(300),
  /** Addresses from which this gateway and its fellows reach the host. With them a certificate is of no use from anywhere else. */
  sourceAddresses: z.array(z.string().refine((text) => sourceRange(text) !== null, 'must be an address, or a range without bits beyond its prefix')).max(64).default([]),
  hostKeys: z.array(hostKey).min(1).max(64).optional(),
  /** A terminal alone by default, which a shell needs; files are copied without any. Forwarding would lead past the gate to what no service declares, and an agent or display of the user to the host. */
  extensions: z.array(z.enum(extensions)).max(extensions.length).default(['permit-pty']),
  /** Runs instead of whatever is asked for. */
  forceCommand: line(1_024).optional(),
}).superRefine((ssh, context) => {
  const mistake = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message })
  if (ssh.principal === 'email-name' && ssh.emailDomains.length === 0) mistake('emailDomains', 'must name the domains: else alice@elsewhere.example would be alice')
  if (ssh.principal === 'subject' && ssh.emailDomains.length > 0) mistake('emailDomains', 'stands with e-mails only')
  if (ssh.principal === 'subject' && ssh.issuers.length === 0) mistake('issuers', 'must name the provider: a subject is one user only within it')
})

/** By what a host is known. */
export interface HostKeys {
  /** Lines without comments. */
  readonly keys: readonly string[]
  /** `SHA256:…` */
  readonly fingerprints: readonly string[]
  /** Lines of CAs. */
  readonly authorities: readonly string[]
}

export interface SshService {
  readonly principal: 'email' | 'email-name' | 'subject'
  readonly emailDomains: ReadonlySet<string>
  /** None: each that the EMS believes. */
  readonly issuers: ReadonlySet<string>
  readonly principals: readonly string[]
  readonly certificateMs: number
  /** As sshd reads them; none: the certificate does not say. */
  readonly sourceAddresses: readonly string[]
  /** null: none are known, and no host is checked. */
  readonly hostKeys: HostKeys | null
  readonly extensions: readonly string[]
  readonly forceCommand: string | null
}

const bare = (text: string): string => {
  const key = readKeyLine(text)
  return key === null ? '' : keyLine(key.type, key.blob)
}

function compileHostKeys(all: readonly string[]): HostKeys {
  const authorities = all.filter((text) => text.startsWith(AUTHORITY))
  const fingerprints = all.filter((text) => fingerprint.test(text))
  return { keys: all.filter((text) => !authorities.includes(text) && !fingerprints.includes(text)).map(bare), fingerprints, authorities: authorities.map((text) => bare(text.slice(AUTHORITY.length))) }
}

/** Reads what the schema has accepted. */
export const compileSsh = (entry: z.output<typeof sshEntry>): SshService => ({
  principal: entry.principal, emailDomains: new Set(entry.emailDomains), issuers: new Set(entry.issuers), principals: entry.principals, certificateMs: entry.certificateSeconds * 1_000,
  sourceAddresses: entry.sourceAddresses.map((text) => sourceRange(text) ?? ''), hostKeys: entry.hostKeys === undefined ? null : compileHostKeys(entry.hostKeys), extensions: [...new Set(entry.extensions)].sort(), forceCommand: entry.forceCommand ?? null,
})
