// A refusal as the client gets it: status, headers, and JSON for programs or a page for people. It decides nothing.
import type { Decision } from '../../protocol/decisions.ts'
import { reasonTexts } from './reason-texts.ts'

const MAX_TAGS = 16

const escapeHtml = (text: string): string => text.replaceAll(/[&<>"'`]/g, (letter) => `&#${letter.charCodeAt(0)};`)

/** What the user reads: the sentence, and the tags that decided. */
export function refusalMessage({ reason, tags }: Decision): string {
  const { sentence } = reasonTexts[reason]
  const names = tags.slice(0, MAX_TAGS).map(({ name, state }) => `${name} (${state})`)
  return names.length === 0 ? sentence : `${sentence} Tags: ${names.join(', ')}.`
}

/** The body that agents read. */
export const refusalJson = (decision: Decision): string => JSON.stringify({
  decision: decision.id, code: decision.code, reason: decision.reason, tags: decision.tags.slice(0, MAX_TAGS), uid: decision.uid, message: refusalMessage(decision), mend: reasonTexts[decision.reason].mend,
})

function page(decision: Decision): string {
  const rows = [
    ['Code', `${decision.code} (${decision.reason})`], ['Device', decision.uid ?? 'not known'], ['Certificate', decision.certificateSerial ?? 'none'],
    ['Destination', decision.destination], ['Time', new Date(decision.at).toISOString()], ['Decision', decision.id],
  ]
  const cells = rows.map(([name = '', value = '']) => `<tr><th scope="row">${name}</th><td>${escapeHtml(value)}</td></tr>`)
  // An empty reference is the page's own address: the link asks again for what was refused.
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Access refused</title>
<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:44rem;margin:10vh auto;padding:0 1rem}th{text-align:left;padding-right:1.5rem}td{font-family:ui-monospace,monospace;overflow-wrap:anywhere}</style></head>
<body><h1>Access refused</h1><p>${escapeHtml(refusalMessage(decision))}</p><p>${escapeHtml(reasonTexts[decision.reason].mend)}</p><table>${cells.join('')}</table><p><a href="">Try again</a></p></body></html>\n`
}

export interface Refusal { readonly status: number; readonly headers: Readonly<Record<string, string>>; readonly body: string }

/** @param accept the client's Accept header: a browser gets a page */
export function renderRefusal(decision: Decision, accept: string | undefined): Refusal {
  const readable = accept?.includes('text/html') ?? false
  const body = readable ? page(decision) : refusalJson(decision)
  const { error, status } = reasonTexts[decision.reason]
  return {
    status,
    headers: {
      'content-type': readable ? 'text/html; charset=utf-8' : 'application/json',
      'content-length': String(Buffer.byteLength(body)),
      'proxy-status': `sallyport; error=${error}; details="${decision.code} ${decision.reason} ${decision.id}"`,
      'cache-control': 'no-store', 'x-content-type-options': 'nosniff', 'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'",
    },
    body,
  }
}
