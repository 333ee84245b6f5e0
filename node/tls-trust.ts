// Which TLS certificates of the EMS are taken. `warn` and `allow` forgive a wrong name or date, never a foreign chain.
import { rootCertificates, type TLSSocket } from 'node:tls'
import type { Log } from './logging.ts'

export type InvalidCertificateAction = 'deny' | 'warn' | 'allow'

/** Node's error codes for a right chain with a wrong name or date. */
const forgivable = new Set(['ERR_TLS_CERT_ALTNAME_INVALID', 'CERT_HAS_EXPIRED', 'CERT_NOT_YET_VALID'])

export interface TlsTrust {
  readonly ca: string[] | undefined
  /** Throws when the connection must not be used; logs when the administrator asked to be warned. */
  check(socket: TLSSocket): void
  /** Whether the last connection was verified without forgiveness: only then is its clock believed. */
  readonly verified: boolean
  readonly rejectUnauthorized: boolean
}

/** @param extraRoots PEM roots beside the system's, for an EMS with a private TLS certificate. */
export function tlsTrust(action: InvalidCertificateAction, extraRoots: readonly string[], log: Log): TlsTrust {
  let verified = true
  return {
    ca: extraRoots.length > 0 ? [...rootCertificates, ...extraRoots] : undefined,
    rejectUnauthorized: action === 'deny',
    get verified() { return verified },
    check(socket) {
      const problem = socket.authorizationError as unknown
      const code = problem instanceof Error ? (problem as NodeJS.ErrnoException).code ?? problem.message : String(problem ?? '')
      verified = socket.authorized
      if (socket.authorized) return
      if (action === 'deny' || !forgivable.has(code)) throw new Error(`the EMS's TLS certificate is not acceptable (${code})`)
      if (action === 'warn') log.warn({ event: 'ems-certificate-forgiven', reason: code }, 'The EMS presented a TLS certificate with a wrong name or date; the profile says to go on.')
    },
  }
}
