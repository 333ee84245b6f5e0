// A refusal as the client gets it: status, headers, and JSON for programs or a page for people. It decides nothing.
import type { Decision, Reason } from '../../protocol/decisions.ts'

/** Reason → a sentence for the user of the device, and the RFC 9209 error type. */
const sentences: Record<Reason, readonly [sentence: string, error: string]> = {
  'allowed': ['Access is allowed.', 'http_request_denied'],
  'no-certificate': ['This device showed no certificate.', 'http_request_denied'],
  'no-certificate-manageable': ['This device showed no certificate, although its kind can be managed: enrol it.', 'http_request_denied'],
  'certificate-invalid': ['The certificate of this device was not issued by this organisation.', 'http_request_denied'],
  'certificate-expired': ['The certificate of this device has expired.', 'http_request_denied'],
  'certificate-wrong-purpose': ['This certificate is not for this use.', 'http_request_denied'],
  'certificate-revoked': ['This certificate is not among the valid ones of the device.', 'http_request_denied'],
  'certificate-unknown': ['The gateway does not know this certificate.', 'http_request_denied'],
  'endpoint-unknown': ['The gateway does not know this device.', 'http_request_denied'],
  'endpoint-deregistered': ['This device is no longer managed.', 'http_request_denied'],
  'endpoint-quarantined': ['This device is in quarantine.', 'http_request_denied'],
  'service-unknown': ['No service is declared for this destination.', 'destination_not_found'],
  'path-ambiguous': ['The path can be read in two ways that lead to different services.', 'http_request_error'],
  'portal-error': ['The gateway itself has no such page.', 'destination_not_found'],
  'address-refused': ['The destination leads to an address that this gateway does not open.', 'destination_ip_prohibited'],
  'name-not-resolved': ['The name of the destination could not be resolved.', 'dns_error'],
  'upstream-unreachable': ['The destination could not be reached.', 'destination_unavailable'],
  'no-policy-matched': ['No policy allows this access.', 'http_request_denied'],
  'fabric-mismatch': ['This access depends on whether the device is on the fabric.', 'http_request_denied'],
  'ownership-mismatch': ['This access is not for devices of this ownership.', 'http_request_denied'],
  'outside-schedule': ['This access is not open at this time.', 'http_request_denied'],
  'denied-by-policy': ['A policy denies this access.', 'http_request_denied'],
  'denied-by-tag': ['A tag of this device forbids this access.', 'http_request_denied'],
  'tag-missing': ['This device lacks a tag that this access needs.', 'http_request_denied'],
  'tag-unknown': ['It is not known whether this device meets the conditions of this access.', 'http_request_denied'],
  'ownership-unknown': ['It is not known whose device this is.', 'http_request_denied'],
  'snapshot-missing': ['The gateway has not yet heard from the management server.', 'proxy_internal_error'],
  'snapshot-stale': ['The gateway has not heard from the management server for too long.', 'proxy_internal_error'],
  'endpoint-offline': ['This device is not connected to the management server.', 'http_request_denied'],
  'deadline-passed': ['The time of this session is over.', 'http_request_denied'],
  'overloaded': ['The gateway has no room for another session.', 'connection_limit_reached'],
}
const statuses: Partial<Record<Reason, number>> = { 'upstream-unreachable': 502, 'name-not-resolved': 502, 'path-ambiguous': 400, 'portal-error': 404, 'overloaded': 503 }
const MAX_TAGS = 16

const escapeHtml = (text: string): string => text.replaceAll(/[&<>"'`]/g, (letter) => `&#${letter.charCodeAt(0)};`)

/** What the user reads: the sentence, and the tags that decided. */
export function refusalMessage({ reason, tags }: Decision): string {
  const names = tags.slice(0, MAX_TAGS).map(({ name, state }) => `${name} (${state})`)
  return names.length === 0 ? sentences[reason][0] : `${sentences[reason][0]} Tags: ${names.join(', ')}.`
}

/** The body that agents read. */
export const refusalJson = (decision: Decision): string => JSON.stringify({
  decision: decision.id, code: decision.code, reason: decision.reason, tags: decision.tags.slice(0, MAX_TAGS), uid: decision.uid, message: refusalMessage(decision),
})

function page(decision: Decision): string {
  const rows = [
    ['Code', `${decision.code} (${decision.reason})`], ['Device', decision.uid ?? 'not known'], ['Certificate', decision.certificateSerial ?? 'none'],
    ['Destination', decision.destination], ['Time', new Date(decision.at).toISOString()], ['Decision', decision.id],
  ]
  const cells = rows.map(([name = '', value = '']) => `<tr><th scope="row">${name}</th><td>${escapeHtml(value)}</td></tr>`)
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Access refused</title>
<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:44rem;margin:10vh auto;padding:0 1rem}th{text-align:left;padding-right:1.5rem}td{font-family:ui-monospace,monospace;overflow-wrap:anywhere}</style></head>
<body><h1>Access refused</h1><p>${escapeHtml(refusalMessage(decision))}</p><table>${cells.join('')}</table><p>Quote the decision to your administrator.</p></body></html>\n`
}

export interface Refusal { readonly status: number; readonly headers: Readonly<Record<string, string>>; readonly body: string }

/** @param accept the client's Accept header: a browser gets a page */
export function renderRefusal(decision: Decision, accept: string | undefined): Refusal {
  const readable = accept?.includes('text/html') ?? false
  const body = readable ? page(decision) : refusalJson(decision)
  return {
    status: statuses[decision.reason] ?? 403,
    headers: {
      'content-type': readable ? 'text/html; charset=utf-8' : 'application/json',
      'content-length': String(Buffer.byteLength(body)),
      'proxy-status': `sallyport; error=${sentences[decision.reason][1]}; details="${decision.code} ${decision.reason} ${decision.id}"`,
      'cache-control': 'no-store', 'x-content-type-options': 'nosniff', 'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'",
    },
    body,
  }
}
