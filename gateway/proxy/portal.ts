// The gateway's own pages, under one reserved path of every host that it answers for. Everybody may read them.
import type { Question, Judge } from './judge.ts'
import { answer, type AnyResponse } from './answer.ts'
import type { AssertionKeys } from './assertion-keys.ts'
import { renderRefusal } from './refusal.ts'
import type { AnyRequest } from './request-body.ts'

const RESERVED = '/.well-known/sallyport/'
/** How long upstreams may keep the keys; the next one is published a day before it signs. */
const KEYS_KEPT_SECONDS = 3_600

export const isPortal = (path: string): boolean => path.startsWith(RESERVED)

/** Answers a request for a page of the gateway's own. */
export function servePortal(request: AnyRequest, response: AnyResponse, question: Question, { keys, judge }: { readonly keys: AssertionKeys; readonly judge: Judge }): void {
  request.resume()
  if (question.path === `${RESERVED}jwks.json` && (request.method === 'GET' || request.method === 'HEAD')) {
    const body = keys.published
    answer(response, 200, { 'content-type': 'application/jwk-set+json', 'content-length': String(Buffer.byteLength(body)), 'cache-control': `public, max-age=${KEYS_KEPT_SECONDS}`, 'access-control-allow-origin': '*' }, request.method === 'HEAD' ? '' : body)
    return
  }
  const { status, headers, body } = renderRefusal(judge.refuse(question, 'portal-error'), request.headers.accept)
  answer(response, status, headers, body)
}
