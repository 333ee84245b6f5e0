// Which TLS certificates of the EMS are taken. `warn` and `allow` forgive a wrong name or date, never a foreign chain.
import { X509Certificate } from 'node:crypto'
import { rootCertificates, type TLSSocket } from 'node:tls'
import type { Log } from './logging.ts'

export type InvalidCertificateAction = 'deny' | 'warn' | 'allow'

/** Node's error codes for a wrong name or date. */
const forgivable = new Set(['ERR_TLS_CERT_ALTNAME_INVALID', 'CERT_HAS_EXPIRED', 'CERT_NOT_YET_VALID'])
const LONGEST_CHAIN = 6

export interface TlsTrust {
  readonly ca: string[] | undefined
  /** Throws when the connection must not be used; logs when the administrator asked to be warned. */
  check(socket: TLSSocket): void
  /** Begins an exchange; the answer tells whether no forgiven connection can have carried it. Only then is the EMS clock believed. */
  watch(): () => boolean
  readonly rejectUnauthorized: boolean
}

/** @param extraRoots PEM roots beside the system's, for an EMS with a private TLS certificate. */
export function tlsTrust(action: InvalidCertificateAction, extraRoots: readonly string[], log: Log): TlsTrust {
  let open = 0
  let total = 0
  return {
    ca: extraRoots.length > 0 ? [...rootCertificates, ...extraRoots] : undefined,
    rejectUnauthorized: action === 'deny',
    watch() {
      const [openBefore, totalBefore] = [open, total]
      return () => openBefore === 0 && total === totalBefore
    },
    check(socket) {
      if (socket.authorized) return
      const code = codeOf(socket.authorizationError)
      // OpenSSL tells only the last thing wrong with a chain: behind a forgivable date there may be a stranger's CA.
      const forgiven = action !== 'deny' && forgivable.has(code) && leadsToRoot(socket.getPeerX509Certificate(), [...rootCertificates, ...extraRoots])
      if (!forgiven) throw new Error(`the EMS's TLS certificate is not acceptable (${code})`)
      open++
      total++
      socket.once('close', () => open--)
      if (action === 'warn') log.warn({ event: 'ems-certificate-forgiven', reason: code }, 'The EMS presented a TLS certificate with a wrong name or date; the profile says to go on.')
    },
  }
}

const codeOf = (problem: unknown): string =>
  problem instanceof Error ? (problem as NodeJS.ErrnoException).code ?? problem.message : typeof problem === 'string' ? problem : 'UNAUTHORIZED'

/** Signatures from the leaf through what the server sent to one of the roots; names and dates are not looked at. */
function leadsToRoot(leaf: X509Certificate | undefined, roots: readonly string[]): boolean {
  const trusted = roots.map((pem) => new X509Certificate(pem))
  let certificate = leaf
  for (let depth = 0; certificate !== undefined && depth < LONGEST_CHAIN; depth++) {
    const current = certificate
    if (depth > 0 && !current.ca) return false
    if (trusted.some((root) => current.fingerprint256 === root.fingerprint256 || signedBy(current, root))) return true
    const issuer: X509Certificate | undefined = current.issuerCertificate
    if (issuer === undefined || issuer.fingerprint256 === current.fingerprint256 || !signedBy(current, issuer)) return false
    certificate = issuer
  }
  return false
}

const signedBy = (certificate: X509Certificate, issuer: X509Certificate): boolean =>
  issuer.ca && certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey)
