// Mutual TLS with a gateway, and the proof that it is that gateway: whatever is spoken above, nothing is said before this holds.
import type { Socket } from 'node:net'
import { checkServerIdentity, connect, type PeerCertificate, type TLSSocket } from 'node:tls'
import { gatewayTlsName, purposeOids } from '../../protocol/certificates.ts'
import type { Revocations } from './revocations.ts'

/** The agent's own certificate and key, PEM. */
export interface TunnelIdentity { certificatePem: string; privateKeyPem: string }

export const revokedSentence = 'the EMS has revoked its certificate'

/** The gateway's name in its certificate (its serial, never a DNS name), that the certificate was issued to serve as one, and that it still holds. */
function checkGateway(serial: string, certificate: PeerCertificate, revocations: Revocations): Error | undefined {
  const wrongName = checkServerIdentity(gatewayTlsName(serial), certificate)
  if (wrongName) return wrongName
  if (!certificate.ext_key_usage?.includes(purposeOids.gateway)) return new Error('the certificate was not issued to a gateway')
  return revocations.refuses(serial, certificate.serialNumber) ? new Error(revokedSentence) : undefined
}

/** The certificate that a gateway has proved itself by. */
export interface Proof { readonly certificateSerial: string; /** ms */ readonly notAfter: number }

/** A TLS session that a gateway lets us resume, and the proof on which it rests: a resumed one shows no certificate again. */
export interface Resumable { readonly session: Buffer; readonly proof: Proof }

/** What resuming leaves out: that the certificate has neither been revoked nor run out since. @param now ms */
export const stillHolds = (serial: string, { certificateSerial, notAfter }: Proof, revocations: Revocations, now: number): boolean =>
  notAfter > now && !revocations.refuses(serial, certificateSerial)

/**
 * Starts TLS over a connection that stands.
 * @param session of an earlier connection to the same gateway with the same identity and authorities, whose proof {@link stillHolds}
 * @param onProved told the certificate that is being verified; a resumed session verifies none
 */
export function startTls(raw: Socket, { serial, identity, authorities, revocations, protocol, session, onProved = () => {} }: {
  serial: string; identity: TunnelIdentity; authorities: string[]; revocations: Revocations
  protocol: 'h2' | 'http/1.1'; session?: Buffer | undefined; onProved?: (proof: Proof) => void
}): TLSSocket {
  const socket = connect({
    socket: raw, cert: identity.certificatePem, key: identity.privateKeyPem, ca: authorities, minVersion: 'TLSv1.3',
    servername: gatewayTlsName(serial), ALPNProtocols: [protocol], session,
    checkServerIdentity(_name, certificate) {
      const refusal = checkGateway(serial, certificate, revocations)
      onProved({ certificateSerial: certificate.serialNumber, notAfter: Date.parse(certificate.valid_to) })
      return refusal
    },
  })
  // A tunnel's answer must be able to outlast its question; an HTTP/2 connection is over when one side is. As an option it is not heeded beside a socket.
  socket.allowHalfOpen = protocol === 'http/1.1'
  return socket
}
