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

function read(peer: Peer): Presented {
  const certificate = peer.getPeerX509Certificate()
  // First: a resumed TLS 1.3 session without any certificate counts as authorised in Node.
  if (certificate === undefined) return { status: 'none' }
  if (!peer.authorized) return refusal(peer.authorizationError)
  const info = readCertificate(new Uint8Array(certificate.raw))
  if (info === null || info.isAuthority) return { status: 'refused', reason: 'certificate-invalid' }
  return { status: 'proved', serial: info.serial, commonName: info.commonName, purpose: info.purpose, notAfter: info.notAfter }
}

/** Remembers the answer for as long as `session` (the TLS socket, or the HTTP/2 session on it) lives. */
export function createPeerReader(): (session: object, peer: Peer) => Presented {
  const known = new WeakMap<object, Presented>()
  return (session, peer) => {
    const presented = known.get(session) ?? read(peer)
    known.set(session, presented)
    return presented
  }
}
