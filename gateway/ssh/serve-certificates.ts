// Issues short-lived SSH user certificates: to a device that may reach the host now, for the user whom an identity provider vouched for on it, and to nobody else.
import { randomBytes } from 'node:crypto'
import { keyLine, readKeyLine } from '../../domain/access/ssh-key.ts'
import { principalsOf } from '../../domain/access/ssh-principals.ts'
import type { Verdict } from '../../domain/access/decide.ts'
import type { Log } from '../../node/logging.ts'
import type { Timers } from '../../node/timers.ts'
import type { Reason } from '../../protocol/decisions.ts'
import { sshCertificateReply, sshCertificateRequest } from '../../protocol/ssh.ts'
import type { z } from 'zod'
import type { Metrics } from '../metrics/metrics.ts'
import { answer, type AnyResponse } from '../proxy/answer.ts'
import { readAuthority } from '../proxy/authority.ts'
import type { Judge, Question } from '../proxy/judge.ts'
import { renderRefusal } from '../proxy/refusal.ts'
import { takeBody, type AnyRequest } from '../proxy/request-body.ts'
import { createAllowance } from '../firewall/allowance.ts'
import type { SshAuthority } from './authority.ts'
import { signUserCertificate } from './certificate.ts'
import { keyObject } from './key-object.ts'

const BODY_BYTES = 4_096
const BODY_MS = 10_000
/** Clocks of hosts differ a little. */
const EARLIER_MS = 60_000
const KEY_ID = 200

export interface SshCertificatesOptions { readonly judge: Judge; readonly authority: SshAuthority; readonly metrics: Metrics; readonly log: Log; readonly timers: Timers; readonly now: () => number }

/** One word: sshd writes it into a line of its log beside others. */
const word = (text: string): string => text.replaceAll(/[^\x21-\x7e]|[="'\\]/g, '?').slice(0, KEY_ID)

async function readBody(request: AnyRequest, timers: Timers): Promise<unknown> {
  const body = takeBody(request, { limitBytes: BODY_BYTES, limitMs: BODY_MS, timers })
  const pieces: Uint8Array[] = []
  try {
    for await (const piece of body.stream ?? []) pieces.push(piece as Uint8Array)
    return JSON.parse(Buffer.concat(pieces).toString('utf8'))
  } catch {
    return null // too long, too slow, broken off or no JSON: the client's doing, and refused as what it is not
  }
}

/** A page in a browser may not ask, whatever certificate its browser has. */
const isFromPage = ({ headers }: AnyRequest): boolean => headers.origin !== undefined || Object.keys(headers).some((name) => name.startsWith('sec-fetch-'))
const isJson = ({ headers }: AnyRequest): boolean => /^application\/json\s*(;|$)/i.test(headers['content-type'] ?? '')

/** What serves {@link SSH_CERTIFICATE_PATH}, for one gate. */
export function createSshCertificates({ judge, authority, metrics, log, timers, now }: SshCertificatesOptions) {
  const allowance = createAllowance({ burst: 20, perSecond: 0.5, now })

  const refuse = (response: AnyResponse, question: Question, verdict: Verdict, reason?: Reason) => {
    const { status, headers, body } = renderRefusal(judge.record(question, { ...verdict, validUntil: null }, reason === undefined ? {} : { reason }), undefined)
    answer(response, status, headers, body)
  }
  const malformed = (response: AnyResponse) => answer(response, 400, { 'content-type': 'text/plain; charset=utf-8', 'proxy-status': 'sallyport; error=http_request_error' }, 'The body must be JSON that names a host, a port and a public key.\n')

  /** Signs, for what was decided in this very tick. */
  function issue(response: AnyResponse, question: Question, verdict: Verdict, { publicKey, signer }: { readonly publicKey: string; readonly signer: Parameters<typeof signUserCertificate>[2] }): void {
    const { service, user, uid } = verdict
    const ssh = service?.ssh ?? null
    const key = readKeyLine(publicKey)
    if (ssh === null || key === null) return refuse(response, question, verdict, 'portal-error')
    if (user === null) return refuse(response, question, verdict, 'user-unverified')
    const principals = principalsOf(ssh, user)
    if (principals === null) return refuse(response, question, verdict, 'user-mismatch')
    const at = now()
    const validBefore = Math.floor(Math.min(at + ssh.certificateMs, user.expiresAt ?? Infinity, verdict.validUntil ?? Infinity) / 1000)
    // Ends before it could be shown: in the second in which the provider's word, or the access, ends.
    if (validBefore * 1000 <= at) return refuse(response, question, verdict, 'user-unverified')
    const decision = judge.record(question, { ...verdict, validUntil: validBefore * 1000 })
    const serial = randomBytes(8).readBigUInt64BE()
    const keyId = `uid=${uid ?? ''} user=${word(user.email ?? user.subject)} decision=${decision.id}`
    const certificate = signUserCertificate({
      key, serial, keyId, principals, validAfter: Math.floor((at - EARLIER_MS) / 1000), validBefore, sourceAddresses: ssh.sourceAddresses, forceCommand: ssh.forceCommand, extensions: ssh.extensions,
    }, randomBytes(32), signer)
    metrics.sshCertificateIssued()
    log.info({
      event: 'ssh_certificate', decision: decision.id, uid, issuer: user.issuer, subject: user.subject, serial: String(serial), principals, destination: decision.destination, validUntil: decision.validUntil, sourceAddresses: ssh.sourceAddresses,
    }, 'An SSH certificate was issued')
    const reply: z.infer<typeof sshCertificateReply> = { certificate: keyLine(certificate.type, certificate.blob), principals: [...principals], validUntil: validBefore * 1000, hostKeys: [...ssh.hostKeys?.keys ?? []] }
    answer(response, 200, { 'content-type': 'application/json', 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' }, JSON.stringify(reply))
  }

  return async (request: AnyRequest, response: AnyResponse, asked: Question): Promise<void> => {
    const { certificate } = asked
    const question: Question = { ...asked, protocol: 'tcp', path: '/' }
    if (request.method !== 'POST' || isFromPage(request) || !isJson(request)) {
      request.resume()
      const { status, headers, body } = renderRefusal(judge.refuse(asked, 'portal-error'), undefined)
      return answer(response, status, headers, body)
    }
    // Before anything is read: whoever is no device gets no further than to be told so.
    if (certificate.status !== 'proved' || certificate.purpose !== 'agent') {
      request.resume()
      return refuse(response, question, await judge.assess(question))
    }
    if (allowance.take(certificate.commonName) > 0) {
      request.resume()
      const { status, headers, body } = renderRefusal(judge.refuse(question, 'overloaded'), undefined)
      return answer(response, status, headers, body)
    }
    const read = sshCertificateRequest.safeParse(await readBody(request, timers))
    if (!read.success) return malformed(response)
    const { host, port, publicKey } = read.data
    const destination = readAuthority(host.includes(':') && !host.startsWith('[') ? `[${host}]:${port}` : `${host}:${port}`, null)
    const key = readKeyLine(publicKey)
    if (destination === null || key === null || keyObject(key.blob) === null) return malformed(response)
    const wanted: Question = { ...question, ...destination }
    const first = await judge.assess(wanted)
    if (!first.allowed) return refuse(response, wanted, first)
    const signer = await authority.signer()
    // The world may have moved since: what follows is of one moment.
    const verdict = judge.again(wanted, 'decide')
    if (!verdict.allowed) return refuse(response, wanted, verdict)
    issue(response, wanted, verdict, { publicKey, signer })
  }
}
export type SshCertificates = ReturnType<typeof createSshCertificates>
