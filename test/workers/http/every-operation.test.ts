// Every operation that is mounted, with every wrong caller and every wrong body: a typed refusal, and nothing stored.
import { beforeAll, describe, expect, it } from 'vitest'
import { env } from 'cloudflare:workers'
import { problem } from '../../../protocol/faults.ts'
import { routes } from '../../../workers/app.ts'
import { enrolled, send, signatureOf, TOKEN, type Endpoint } from '../ems.ts'

const { DB } = env as unknown as { DB: D1Database }
const operations = routes.map(({ operation }) => operation)
const uid = 'f'.repeat(32)
const filled = (path: string, value?: string) => path.replaceAll(/\{(\w+)\}/g, (_, name: string) => value ?? (name === 'uid' ? uid : name === 'sn' || path.includes('/gateways/') ? 'SPGW0123456789AB' : name === 'serial' ? 'A'.repeat(40) : '00000000-0000-4000-8000-000000000009'))
const refusalOf = (json: Record<string, unknown>) => problem.safeParse(json.problem ?? json)
const tables = ['endpoints', 'certificates', 'invitations', 'rule_sets', 'profiles', 'endpoint_policies', 'avatars', 'change_log', 'endpoint_sections']
const counts = async () => (await DB.batch<{ n: number }>(tables.map((table) => DB.prepare(`SELECT count(*) AS n FROM ${table}`)))).map(({ results }) => results[0]?.n)
const asAdministrator = { authorization: `Bearer ${TOKEN}` }

describe('every operation', () => {
  let endpoint: Endpoint
  beforeAll(async () => { endpoint = await enrolled() })

  /** Headers of the caller that the operation wants, for a body sent as text. */
  const rightCaller = async (operation: (typeof operations)[number], path: string, text: string) => {
    if (operation.caller === 'administrator') return asAdministrator
    return operation.caller === 'endpoint' ? await signatureOfText(operation.method, path, text) : {}
  }
  const signatureOfText = async (method: string, path: string, text: string) => {
    const { signRequest } = await import('../../../identity/request-signature.ts')
    const { utf8 } = await import('../../../identity/encoding.ts')
    return await signRequest({ method, url: `https://ems.test${path}`, body: utf8(text), privateKey: endpoint.keys.privateKey, certificateDer: endpoint.certificate, now: Date.now() })
  }

  it.each(operations.filter(({ caller }) => caller !== 'nobody'))('$id refuses nobody, a wrong token, and the other caller', async (operation) => {
    const path = filled(operation.path)
    const before = await counts()
    const body = operation.body === undefined ? undefined : {}
    for (const headers of [{}, { authorization: 'Bearer wrong' }, { authorization: `Basic ${TOKEN}` }, operation.caller === 'administrator' ? await signatureOf(endpoint, operation.method, path, body) : asAdministrator]) {
      const { status, json } = await send(operation.method, path, { body, headers })
      expect([status, refusalOf(json).success]).toEqual([401, true])
    }
    expect(await counts()).toEqual(before)
  })

  // A gateway's wrong bodies are sent by the fabric's own suites, which have a gateway (fabric-update too: it takes unknown members, as the published form does).
  it.each(operations.filter(({ id, body, caller, signedByBareKey }) => body !== undefined && id !== 'fabric-update' && caller !== 'gateway' && signedByBareKey !== true))('$id refuses what is no body of its own', async (operation) => {
    const path = filled(operation.path)
    const before = await counts()
    const wrong: [string, number][] = [
      ['', 415], ['{', 400], ['null', 422], ['[]', 422], ['"x"', 422], [`${'['.repeat(200)}${']'.repeat(200)}`, 400], [`{"a":"${'x'.repeat(operation.maxBodyBytes ?? 16 * 1024)}"}`, 413],
      ['{"__proto__":{"x":1},"constructor":1,"unheard-of":"\\u0000"}', 422],
    ]
    for (const [text, expected] of wrong) {
      const { status, json } = await send(operation.method, path, { body: text === '' ? undefined : text, headers: await rightCaller(operation, path, text) })
      expect([text.slice(0, 20), status, refusalOf(json).success]).toEqual([text.slice(0, 20), expected, true])
    }
    const { status } = await send(operation.method, path, { body: '{}', headers: { ...await rightCaller(operation, path, '{}'), 'content-type': 'text/plain' } })
    expect(status).toBe(415)
    expect(await counts()).toEqual(before)
  })

  const hostile = ['\' OR 1=1 --', '..%2f..%2fetc%2fpasswd', '%00', 'A'.repeat(5000), '%3Cscript%3E', 'ffffffffffffffffffffffffffffffff%27', 'FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF']
  it.each(operations.filter(({ params }) => params !== undefined))('$id refuses SQL, paths and markup in its path', async (operation) => {
    const before = await counts()
    for (const value of hostile) {
      const path = filled(operation.path, value.includes('%') ? value : encodeURIComponent(value))
      const text = operation.body === undefined ? '' : '{}'
      const { status, json } = await send(operation.method, path, { body: text === '' ? undefined : text, headers: await rightCaller(operation, path, text) })
      expect([value, [404, 422].includes(status), refusalOf(json).success]).toEqual([value, true, true])
    }
    expect(await counts()).toEqual(before)
  })

  it('stands in the OpenAPI document, with its refusals', async () => {
    const { json } = await send('GET', '/openapi.json')
    expect(json.openapi).toBe('3.1.0')
    const paths = json.paths as Record<string, Record<string, { operationId: string; responses: Record<string, unknown> }>>
    for (const operation of operations) {
      const documented = paths[operation.path]?.[operation.method.toLowerCase()]
      expect([documented?.operationId, documented?.responses.default !== undefined]).toEqual([operation.id, true])
    }
  })

  it('answers an unknown path and an unknown method with a problem', async () => {
    for (const [method, path] of [['GET', '/nothing'], ['DELETE', '/api/v1/health'], ['GET', '/api/v1/admin/../../etc/passwd']] as const) {
      const { status, json } = await send(method, path)
      expect([status, refusalOf(json).success]).toEqual([404, true])
    }
  })
})
