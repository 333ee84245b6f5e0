// What an agent asks its gateway for an SSH session: a short-lived user certificate for a key of its own, and the host keys to expect.
import { z } from 'zod'
import { instant, line, port } from './text.ts'

/** On the gateway, POST, JSON, over a connection with the `agent` certificate. A refusal is answered like every other decision. */
export const SSH_CERTIFICATE_PATH = '/.well-known/sallyport/ssh-certificate'

/** A public key as OpenSSH writes it, without comment. */
export const sshPublicKey = z.string().max(2048).regex(/^(ssh-ed25519|ecdsa-sha2-nistp(256|384|521)|ssh-rsa|sk-ssh-ed25519@openssh\.com|sk-ecdsa-sha2-nistp256@openssh\.com) [A-Za-z0-9+/]+={0,2}$/, 'must be an OpenSSH public key like ssh-ed25519 AAAA…')

export const sshCertificateRequest = z.strictObject({
  /** The destination, as the tunnel to it will name it. */
  host: line(253), port,
  publicKey: sshPublicKey,
})
export const sshCertificateReply = z.object({
  /** One line, as OpenSSH keeps it in `…-cert.pub`. */
  certificate: z.string().max(16_384),
  /** Login names that the certificate is good for; hosts may map them. */
  principals: z.array(line(256)).min(1).max(16),
  validUntil: instant,
  /** Host keys that the gateway takes from that host; empty: it was told none. */
  hostKeys: z.array(sshPublicKey).max(64),
})
