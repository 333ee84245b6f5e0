// An EMS under test, by its front door: signed requests, an administrator, an enrolled endpoint.
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { exports } from 'cloudflare:workers'
import canonicalize from 'canonicalize'
import { utf8, fromPem, copyBytes, type Bytes } from '../../identity/encoding.ts'
import { exportPublicKey, generateKey, sha256Hex } from '../../identity/keys.ts'
import { createCsr } from '../../identity/request.ts'
import { signRequest } from '../../identity/request-signature.ts'
import type { Sections } from '../../protocol/facts.ts'
import { INVITATION_PREFIX, readInvitation } from '../../protocol/invitation.ts'
import type { Env } from '../../workers/env.ts'
import here from '../../workers/index.ts'

export const ORIGIN = 'https://ems.test'
export const TOKEN = 'test-administrator-token-0123456789abcdef'

export interface Answer { readonly status: number; readonly json: Record<string, unknown>; readonly code: string }
const { default: worker } = exports as unknown as { default: { fetch(request: Request): Promise<Response> } }

interface Sending { readonly body?: unknown; readonly headers?: Record<string, string> | Headers }
export const send = async (method: string, path: string, options: Sending = {}): Promise<Answer> => await answerOf(await worker.fetch(requestOf(method, path, options)))
/** The same Worker over bindings of the test's own. */
export async function sendTo(bindings: Env, method: string, path: string, options: Sending = {}): Promise<Answer> {
  const context = createExecutionContext()
  const answer = await answerOf(await here.fetch(requestOf(method, path, options), bindings, context))
  await waitOnExecutionContext(context)
  return answer
}
export function requestOf(method: string, path: string, { body, headers = {} }: Sending): Request {
  const text = typeof body === 'string' ? body : body === undefined ? undefined : JSON.stringify(body)
  const all = new Headers(headers)
  if (text !== undefined && !all.has('content-type')) all.set('content-type', 'application/json')
  return new Request(`${ORIGIN}${path}`, { method, headers: all, ...(text === undefined ? {} : { body: text }) })
}
export async function answerOf(response: Response): Promise<Answer> {
  const read = await response.text()
  const json = read.startsWith('{') ? JSON.parse(read) as Record<string, unknown> : {}
  return { status: response.status, json, code: typeof json.code === 'string' ? json.code : '' }
}
export const admin = (method: string, path: string, body?: unknown) => send(method, `/api/v1/admin${path}`, { body, headers: { authorization: `Bearer ${TOKEN}` } })

export interface Endpoint { readonly uid: string; readonly keys: CryptoKeyPair; readonly certificate: Bytes }
export async function invite(options: object = {}): Promise<string> {
  const { json } = await admin('POST', '/invitations', { name: 'test', ...options })
  const invitation = readInvitation(INVITATION_PREFIX, String(json.text))
  if (invitation === null) throw new Error('no invitation was given')
  return invitation.code
}
export const der = (pem: unknown): Bytes => copyBytes(fromPem('CERTIFICATE', String(pem)) ?? new Uint8Array())
export const enrolBody = async (invitation: string, keys: CryptoKeyPair, changes: object = {}) =>
  ({ invitation, csr: await createCsr(keys, 'laptop'), hostName: 'laptop', os: 'linux', agentVersion: '0.1.0', protocol: '7.0.0', ...changes })
export async function enrolled(options: object = {}): Promise<Endpoint> {
  const keys = await generateKey()
  const answer = await send('POST', '/api/v1/endpoint/enrol', { body: await enrolBody(await invite(options), keys) })
  if (answer.status !== 200) throw new Error(`enrolment failed: ${JSON.stringify(answer.json)}`)
  return { uid: String(answer.json.uid), keys, certificate: der(answer.json.certificate) }
}
export interface Gateway { readonly serial: string; readonly keys: CryptoKeyPair; readonly certificate: Bytes }
/** A gateway that joined by a code. */
export async function joinedByCode(): Promise<Gateway> {
  const keys = await generateKey()
  const { json } = await admin('POST', '/join-codes', { name: 'gate' })
  const path = '/api/v1/fabric_device_auth/fortigate/init'
  const text = JSON.stringify({ serial_number: 'gate', csr: await createCsr(keys, 'gate'), join_code: json.text })
  const answer = await send('POST', path, { body: text, headers: await signedText({ keys }, 'POST', path, text) })
  const data = answer.json.data as { serial?: string; certificate?: string } | null
  if (data?.certificate === undefined) throw new Error(`joining failed: ${JSON.stringify(answer.json)}`)
  return { serial: String(data.serial), keys, certificate: der(data.certificate) }
}
/** Signature headers for a body as text; without a certificate by the bare key. */
export const signedText = async ({ keys, certificate }: { keys: CryptoKeyPair; certificate?: Bytes }, method: string, path: string, text: string) => signRequest({
  method, url: `${ORIGIN}${path}`, body: utf8(text), privateKey: keys.privateKey, now: Date.now(), ...(certificate === undefined ? { spkiDer: await exportPublicKey(keys.publicKey) } : { certificateDer: certificate }),
})
/** A request signed by an endpoint; `changes` tamper with what was signed. */
export async function signed(endpoint: Endpoint, method: string, path: string, body?: unknown, changes: { now?: number } = {}): Promise<Answer> {
  return await send(method, path, { body, headers: await signatureOf(endpoint, method, path, body, changes) })
}
export const signatureOf = (endpoint: Endpoint, method: string, path: string, body?: unknown, changes: { now?: number } = {}) =>
  signRequest({ method, url: `${ORIGIN}${path}`, body: utf8(body === undefined ? '' : JSON.stringify(body)), privateKey: endpoint.keys.privateKey, certificateDer: endpoint.certificate, now: changes.now ?? Date.now() })

export const linux = (version = '12.8'): Sections['os'] => ({ type: 'linux', name: 'Debian GNU/Linux', version, kernel: '6.1', architecture: 'x64' })
export async function reportBody(sequence: number, sections: Partial<Sections>) {
  const hashes = await Promise.all(Object.entries(sections).map(async ([name, value]) => [name, await sha256Hex(utf8(canonicalize(value) ?? ''))] as const))
  return { sequence, sections, hashes: Object.fromEntries(hashes) }
}
export const report = async (endpoint: Endpoint, sequence: number, sections: Partial<Sections>) => await signed(endpoint, 'POST', '/api/v1/endpoint/report', await reportBody(sequence, sections))
