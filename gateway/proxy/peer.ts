// Who is at the other end of a TLS session, read once per session. Whether they may do anything is not decided here.
import type { TLSSocket } from 'node:tls'
import type { Presented } from '../../domain/access/identify.ts'
import { readCertificate } from '../../identity/certificate.ts'

export type ProvedPeer = Extract<Presented, { status: 'proved' }>
type Peer = Pick<TLSSocket, 'authorized' | 'authorizationError' | 'getPeerX509Certificate'>

/** OpenSSL's verdict on the chain, in our words. */
function refusal(error: unknown): Extract<Presented, { status: 'refused' }> {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code ?? error.message : String(error)
  if (code === 'CERT_HAS_EXPIRED') return { status: 'refused', reason: 'certificate-expired' }
  return { status: 'refused', reason: code === 'INVALID_PURPOSE' ? 'certificate-wrong-purpose' : 'certificate-invalid' }
}

/** A device comes back with the certificate it had; parsing one costs as much as many decisions. */
const MAX_PARSED = 20_000

/** @param parsed by fingerprint: certificates that were read before. Each connection's own chain is verified by OpenSSL all the same. */
function read(peer: Peer, parsed: Map<string, Presented>): Presented {
  const certificate = peer.getPeerX509Certificate()
  // First: a resumed TLS 1.3 session without any certificate counts as authorised in Node.
  if (certificate === undefined) return { status: 'none' }
  if (!peer.authorized) return refusal(peer.authorizationError)
  const kept = parsed.get(certificate.fingerprint256)
  if (kept !== undefined) return kept
  const info = readCertificate(new Uint8Array(certificate.raw))
  if (info === null || info.isAuthority) return { status: 'refused', reason: 'certificate-invalid' }
  const proved: Presented = { status: 'proved', serial: info.serial, commonName: info.commonName, purpose: info.purpose, notAfter: info.notAfter }
  if (parsed.size >= MAX_PARSED) parsed.clear()
  parsed.set(certificate.fingerprint256, proved)
  return proved
}

/** Remembers the answer for as long as `session` (the TLS socket, or the HTTP/2 session on it) lives, and what stands in a certificate beyond that. */
export function createPeerReader(): (session: object, peer: Peer) => Presented {
  const known = new WeakMap<object, Presented>()
  const parsed = new Map<string, Presented>()
  return (session, peer) => {
    const presented = known.get(session) ?? read(peer, parsed)
    known.set(session, presented)
    return presented
  }
}
