// What a failure says to the person at the keyboard: what happened, and what to do next. It decides nothing.
import { Fault, type FaultCode } from '../protocol/faults.ts'

/** System errors by code: what a person does about them. */
const byCode: Record<string, string> = {
  ENOSPC: 'the disk is full. Make room.', EDQUOT: 'the disk quota is used up. Make room.', EROFS: 'the file system is read-only. Mount it for writing.',
  EACCES: 'this account may not. Run it as the account that owns the state (sudo?).', EPERM: 'this account may not. Run it as the account that owns the state (sudo?).',
  EMFILE: 'too many files are open in this process.', ENFILE: 'too many files are open on this machine.', EIO: 'the disk reports an error.',
}

/** What a failure of the system means, as the rest of a sentence; null when it is none. */
export function systemFailure(cause: unknown): string | null {
  const { code, syscall, message } = (cause ?? {}) as { code?: unknown; syscall?: unknown; message?: unknown }
  if (typeof code !== 'string' || typeof syscall !== 'string') return null
  return byCode[code] ?? `${String(message)}.`
}

const nextByFault: Partial<Record<FaultCode, string>> = {
  busy: 'Check the network and that the EMS runs, then try again.',
  invitation_refused: 'Ask an administrator for a new invitation.',
  no_seat: 'Ask an administrator to free a seat.',
  ca_locked: 'Only an administrator of the EMS can mend that.',
  internal: 'Try again; if it stays so, tell an administrator of the EMS.',
  too_many: 'Wait a little and try again.',
  certificate_revoked: 'An administrator revoked it. Ask to be deregistered, then enrol with a new invitation.',
  bad_certificate: 'If the EMS was set up anew, ask an administrator for a new invitation.',
}
/** How OpenSSL names a server certificate that leads to no root this machine trusts. */
const UNTRUSTED = /SELF_SIGNED_CERT_IN_CHAIN|DEPTH_ZERO_SELF_SIGNED_CERT|UNABLE_TO_VERIFY_LEAF_SIGNATURE|UNABLE_TO_GET_ISSUER_CERT/

/** One or two sentences for standard error or `status`. */
export function sentenceFor(cause: unknown): string {
  if (cause instanceof Fault) {
    const next = UNTRUSTED.test(cause.message) ? 'Its TLS certificate is from a root that this machine does not trust; name that root by --tls-ca FILE when you enrol.' : nextByFault[cause.code]
    const [first] = cause.extras.errors ?? []
    const more = [...(first === undefined ? [] : [`(${first.pointer} ${first.detail})`]), ...(next === undefined ? [] : [next])]
    // Not where nothing follows: it may end with a command to copy.
    return more.length === 0 ? cause.message : [`${cause.message.replace(/[.!]?$/, '')}.`, ...more].join(' ')
  }
  const system = systemFailure(cause)
  const { path, address } = (cause ?? {}) as { path?: unknown; address?: unknown }
  const place = path ?? address
  if (system !== null) return typeof place === 'string' ? `${place}: ${system}` : `${system.charAt(0).toUpperCase()}${system.slice(1)}`
  return cause instanceof Error ? cause.message : String(cause)
}
