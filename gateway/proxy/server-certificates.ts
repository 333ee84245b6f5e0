// Which certificate the listener shows: by the name that a client asks for, one from files or ACME; for everybody else the one that the EMS issued.
import { X509Certificate } from 'node:crypto'
import { createSecureContext, type SecureContext, type SecureContextOptions } from 'node:tls'
import type { KeyPair } from './key-pairs.ts'

const dnsName = /^(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*$/

/** The DNS names of a certificate, `*.` and all, in lower case. */
export function namesOf({ cert }: KeyPair): string[] {
  const alternatives = new X509Certificate(cert).subjectAltName ?? ''
  return alternatives.split(', ').flatMap((each) => (each.startsWith('DNS:') ? [each.slice(4).toLowerCase()] : [])).filter((name) => dnsName.test(name))
}

/**
 * Contexts by name; of two certificates for one name the first stands.
 * @param common what all have in common: CAs of clients, versions, ticket keys
 * @param onUnusable told why OpenSSL takes a certificate not; the others stand
 */
export function contextsByName(pairs: readonly KeyPair[], common: SecureContextOptions, onUnusable: (reason: string) => void): ReadonlyMap<string, SecureContext> {
  const contexts = new Map<string, SecureContext>()
  for (const pair of pairs) {
    try {
      const context = createSecureContext({ ...common, ...pair })
      for (const name of namesOf(pair)) if (!contexts.has(name)) contexts.set(name, context)
    } catch (cause) {
      onUnusable(cause instanceof Error ? cause.message : String(cause))
    }
  }
  return contexts
}

/** The context for a name: exact, else a wildcard for its first label. */
export function contextFor(contexts: ReadonlyMap<string, SecureContext>, name: string): SecureContext | undefined {
  const asked = name.toLowerCase()
  return contexts.get(asked) ?? contexts.get(`*${asked.slice(asked.indexOf('.'))}`)
}
