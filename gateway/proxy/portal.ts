// The gateway's own pages, under one reserved path of every host that it answers for. Everybody may read the keys, a device why its session was cut, and it gets SSH certificates.
import type { Decision } from '../../protocol/decisions.ts'
import { SSH_CERTIFICATE_PATH } from '../../protocol/ssh.ts'
import type { SshAuthority } from '../ssh/authority.ts'
import type { SshCertificates } from '../ssh/serve-certificates.ts'
import type { Question, Judge } from './judge.ts'
import { answer, begin, type AnyResponse } from './answer.ts'
import type { AssertionKeys } from './assertion-keys.ts'
import { readAuthority } from './authority.ts'
import type { Cuts } from './cuts.ts'
import { renderRefusal } from './refusal.ts'
import type { AnyRequest } from './request-body.ts'

const RESERVED = '/.well-known/sallyport/'
/** How long upstreams may keep the keys; the next one is published a day before it signs. */
const KEYS_KEPT_SECONDS = 3_600
/** Hosts ask for the keys of the SSH CA now and then; one that is withdrawn must be gone soon. */
const SSH_KEYS_KEPT_SECONDS = 60

export const isPortal = (path: string): boolean => path.startsWith(RESERVED)

interface Portal { readonly keys: AssertionKeys; readonly judge: Judge; readonly cuts: Cuts; readonly ssh: { readonly authority: SshAuthority; readonly serve: SshCertificates; /** Whether a service has anything to do with SSH. */ readonly isUsed: () => boolean } }

/**
 * Why a session ended, for the device whose session it was: the decision that cut it, or, where another process of this gateway had it, what would be
 * decided now. null: nothing stands against it.
 */
async function whyCut(question: Question, query: string, { judge, cuts }: Portal): Promise<Decision | null> {
  const asked = new URLSearchParams(query)
  const { certificate } = question
  if (certificate.status !== 'proved' || certificate.purpose !== 'agent') return judge.refuse(question, 'portal-error')
  const kept = cuts.find(asked.get('session') ?? '', certificate.commonName)
  const destination = readAuthority(asked.get('destination') ?? '', null)
  if (kept !== null || destination === null) return kept
  const now: Question = { ...question, ...destination, protocol: 'tcp', path: '/' }
  const verdict = await judge.assess(now)
  return verdict.allowed ? null : judge.record(now, verdict)
}

/** Answers a request for a page of the gateway's own. */
export async function servePortal(request: AnyRequest, response: AnyResponse, question: Question, query: string, portal: Portal): Promise<void> {
  const { keys, judge, ssh } = portal
  if (question.path === SSH_CERTIFICATE_PATH) return await ssh.serve(request, response, question)
  request.resume()
  if (question.path === `${RESERVED}jwks.json` && (request.method === 'GET' || request.method === 'HEAD')) {
    const body = keys.published
    // The connection stays: agents that keep one ready ask for this page now and then.
    begin(response, 200, { 'content-type': 'application/jwk-set+json', 'content-length': String(Buffer.byteLength(body)), 'cache-control': `public, max-age=${KEYS_KEPT_SECONDS}`, 'access-control-allow-origin': '*' })
    response.end(request.method === 'HEAD' ? '' : body)
    return
  }
  // Without a service for it no key is made: whoever asks is a stranger.
  if (question.path === `${RESERVED}ssh-ca.pub` && request.method === 'GET' && ssh.isUsed()) {
    const lines = (await ssh.authority.published()).map(({ line }) => `${line}\n`)
    answer(response, 200, { 'content-type': 'text/plain; charset=utf-8', 'cache-control': `public, max-age=${SSH_KEYS_KEPT_SECONDS}`, 'x-content-type-options': 'nosniff' }, lines.join(''))
    return
  }
  if (question.path === `${RESERVED}cut` && request.method === 'GET') {
    const decision = await whyCut(question, query, portal)
    if (decision === null) {
      answer(response, 204, { 'cache-control': 'no-store' }, '')
      return
    }
    const { status, headers, body } = renderRefusal(decision, undefined)
    answer(response, status, headers, body)
    return
  }
  const { status, headers, body } = renderRefusal(judge.refuse(question, 'portal-error'), request.headers.accept)
  answer(response, status, headers, body)
}
