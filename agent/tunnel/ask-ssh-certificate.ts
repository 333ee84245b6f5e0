// Has a gateway certify a key for an SSH session with a host behind it, over the connection that stands. The private key never leaves the person's program.
import { constants, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2'
import type { z } from 'zod'
import { gatewayTlsName } from '../../protocol/certificates.ts'
import { SSH_CERTIFICATE_PATH, sshCertificateReply, type sshCertificateRequest } from '../../protocol/ssh.ts'
import type { Timers } from '../../node/timers.ts'
import type { AskGateways } from './ask-gateways.ts'
import { readDenial, type Denial } from './denial.ts'
import { patiently } from './failover.ts'
import { notServed, type GatewayLink } from './gateway-link.ts'
import { answerLimitMs, readBody, type StreamOutcome } from './open-stream.ts'
import { authorityOf, canonicalHost } from './target.ts'

export type SshCertificateWanted = z.infer<typeof sshCertificateRequest>
type Issued = z.infer<typeof sshCertificateReply>
export type SshCertificateOutcome =
  | { readonly outcome: 'issued'; readonly reply: Issued }
  /** A gateway leads there, and gives no certificates for it. */
  | { readonly outcome: 'none' }
  /** No gateway leads there. */
  | { readonly outcome: 'unprotected' }
  | { readonly outcome: 'refused'; readonly denial: Denial }
  | { readonly outcome: 'unreachable'; readonly message: string }

/** `reply`: null where the gateway gives none for that host. */
type Answered = Exclude<StreamOutcome, { kind: 'open' }> | { readonly kind: 'open'; readonly reply: Issued | null }

/** A certificate and 64 host keys. */
const ANSWER_LIMIT_BYTES = 262_144

async function readAnswer(stream: ClientHttp2Stream, { status, destination, now }: { status: number; destination: string; now: () => number }): Promise<Answered> {
  const text = await readBody(stream, ANSWER_LIMIT_BYTES)
  if (status !== 200) {
    const denial = readDenial(text, { status, destination, at: now() })
    // A gateway without this page, or without an SSH CA for that host.
    return denial.reason === 'portal-error' || status === 404 ? { kind: 'open', reply: null } : { kind: 'refused', denial }
  }
  const reply = sshCertificateReply.safeParse(parseJson(text))
  return reply.success ? { kind: 'open', reply: reply.data } : { kind: 'unreachable', message: 'it answered in a form that this agent does not know' }
}
const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined // broken off or no JSON: not a reply, and told as that
  }
}

/** One gateway, over one connection. */
function askOne(session: ClientHttp2Session, serial: string, wanted: SshCertificateWanted, { destination, timers, now }: { destination: string; timers: Timers; now: () => number }): Promise<Answered> {
  const { promise, resolve } = Promise.withResolvers<Answered>()
  const { host, port, publicKey } = wanted
  const stream = session.request({ ':method': 'POST', ':path': SSH_CERTIFICATE_PATH, ':scheme': 'https', ':authority': gatewayTlsName(serial), 'content-type': 'application/json' }, { endStream: false })
  let failure = 'it closed the stream without an answer'
  const stop = timers.after(answerLimitMs, () => {
    // Silent once, it would be silent again: it is not asked twice.
    resolve({ kind: 'unreachable', message: `it did not answer within ${answerLimitMs} ms` })
    stream.close(constants.NGHTTP2_CANCEL)
  })
  // Stays for the whole life of the stream: an 'error' without a listener ends the agent.
  stream.on('error', (error) => {
    failure = error.message
  })
  stream.once('response', (headers) => {
    void readAnswer(stream, { status: Number(headers[':status']), destination, now }).then(resolve)
  })
  stream.once('close', () => {
    stop()
    // Nothing of it has been looked at, or only read: it may be asked again.
    resolve({ kind: 'unanswered', message: failure })
  })
  stream.end(JSON.stringify({ host, port, publicKey }))
  return promise
}

/** Asks the gateways that lead to the host, in their order. */
export async function askSshCertificate(wanted: SshCertificateWanted, { askGateways, timers, now }: { askGateways: AskGateways; timers: Timers; now: () => number }): Promise<SshCertificateOutcome> {
  const host = canonicalHost(wanted.host)
  if (host === null) return { outcome: 'unprotected' }
  const target = { host, port: wanted.port }
  const destination = authorityOf(target)
  const attempt = async (gateway: GatewayLink, { isLast, isOnly }: { isLast: boolean; isOnly: boolean }): Promise<Answered> => {
    try {
      const session = await (isLast ? gateway.session(!isOnly) : patiently(gateway.session(), timers))
      return await askOne(session, gateway.serial, { ...wanted, host }, { destination, timers, now })
    } catch (error) {
      return notServed(error)
    }
  }
  const asked = await askGateways(target, new AbortController().signal, attempt)
  switch (asked.kind) {
    case 'open': return asked.reply === null ? { outcome: 'none' } : { outcome: 'issued', reply: asked.reply }
    case 'refused': return { outcome: 'refused', denial: asked.denial }
    case 'unprotected': return { outcome: 'unprotected' }
    default: return { outcome: 'unreachable', message: asked.message }
  }
}
