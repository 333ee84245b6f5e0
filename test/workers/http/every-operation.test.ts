// Every operation of the contract, with every wrong caller and every wrong body: a typed refusal, and nothing stored.
import { beforeAll, describe, expect, it } from 'vitest'
import { generateKey } from '../../../identity/keys.ts'
import { problem } from '../../../protocol/faults.ts'
import type { Operation } from '../../../protocol/operation.ts'
import { operations } from '../../../protocol/operations/all.ts'
import { routes } from '../../../workers/app.ts'
import { dump } from '../dump.ts'
import { enrolled, joinedByCode, send, signedText, TOKEN, type Endpoint, type Gateway } from '../ems.ts'

/** Well-formed names of things that there are not. */
const absent: Record<string, string> = { uid: 'f'.repeat(32), sn: 'SPGW00000000000F', tag: '00000000-0000-4000-8000-000000000009' }
const absentIn = (path: string, name: string) => {
  if (name === 'serial') return path.includes('/gateways/') ? 'SPGW00000000000F' : 'A'.repeat(40)
  if (name === 'id' && path.includes('/decisions/')) return 'D00000000000F-0123456789ABCDEF'
  return absent[name] ?? '00000000-0000-4000-8000-000000000009'
}
const filled = (path: string, value?: string) => path.replaceAll(/\{(\w+)\}/g, (_, name: string) => value ?? absentIn(path, name))
const refusalOf = (json: Record<string, unknown>) => problem.safeParse(json.problem ?? json)
const asAdministrator = { authorization: `Bearer ${TOKEN}` }

describe('every operation', () => {
  let endpoint: Endpoint
  let gateway: Gateway
  let stranger: CryptoKeyPair
  beforeAll(async () => {
    [endpoint, gateway, stranger] = await Promise.all([enrolled(), joinedByCode(), generateKey()])
  })

  /** Headers of the caller that the operation wants, for a body sent as text. */
  const rightCaller = async ({ caller, method, signedByBareKey }: Operation, path: string, text: string): Promise<Record<string, string>> => {
    if (caller === 'administrator') return asAdministrator
    if (caller === 'nobody') return signedByBareKey === true ? await signedText({ keys: stranger }, method, path, text) : {}
    return await signedText(caller === 'endpoint' ? endpoint : gateway, method, path, text)
  }
  /** Credentials that are good, but not for this operation; and what is none. */
  const wrongCallers = async ({ caller, method, signedByBareKey }: Operation, path: string, text: string) => [
    {}, { authorization: 'Bearer wrong' }, { authorization: `Basic ${TOKEN}` }, { authorization: `Bearer ${TOKEN}x` },
    ...(caller === 'administrator' ? [] : [asAdministrator]),
    ...(caller === 'endpoint' ? [] : [await signedText(endpoint, method, path, text)]),
    ...(caller === 'gateway' ? [] : [await signedText(gateway, method, path, text)]),
    ...(signedByBareKey === true ? [] : [await signedText({ keys: stranger }, method, path, text)]),
  ]

  it('is mounted, once', () => {
    expect(routes.map(({ operation }) => operation.id).sort()).toEqual(operations.map(({ id }) => id).sort())
  })

  it.each(operations.filter(({ caller, signedByBareKey }) => caller !== 'nobody' || signedByBareKey === true))('$id refuses nobody, a wrong token, and every other caller', async (operation) => {
    const path = filled(operation.path)
    const text = operation.body === undefined ? '' : '{}'
    const before = await dump()
    for (const headers of await wrongCallers(operation, path, text)) {
      const { status, json } = await send(operation.method, path, { body: text === '' ? undefined : text, headers })
      expect([[401, 403].includes(status), refusalOf(json).success]).toEqual([true, true])
    }
    expect(await dump()).toEqual(before)
  })

  const wrongTypes = '{"csr":1,"fortigates":[],"fgt_sns":"x","devices_to_update":{},"update":3,"share_mode":"1","sysinfo":[],"uid_offset":{},"limit":"\\u0000","updated_after":["1"],"count":-1,"version":7,"page":[],"fingerprints":{}}'
  it.each(operations.filter(({ body }) => body !== undefined))('$id refuses what is no body of its own', async (operation) => {
    const path = filled(operation.path)
    const before = await dump()
    const wrong: [string, number][] = [
      ['', 415], ['{', 400], ['{}x', 400], ['null', 422], ['[]', 422], ['"x"', 422], ['1', 422], [`${'['.repeat(200)}${']'.repeat(200)}`, 400], [`${'{"a":'.repeat(33)}1${'}'.repeat(33)}`, 400],
      [`{"a":"${'x'.repeat(operation.maxBodyBytes ?? 16 * 1024)}"}`, 413], [wrongTypes, 422],
      // The published wire lets a newer gateway say more than we know; ours does not.
      ...(operation.surface === 'fabric' ? [] : [['{"__proto__":{"x":1},"constructor":1,"unheard-of":"\\u0000"}', 422] as [string, number]]),
    ]
    for (const [text, expected] of wrong) {
      const { status, json } = await send(operation.method, path, { body: text === '' ? undefined : text, headers: await rightCaller(operation, path, text) })
      expect([text.slice(0, 20), status, refusalOf(json).success]).toEqual([text.slice(0, 20), expected, true])
    }
    for (const type of ['text/plain', 'application/json-patch+json', 'multipart/form-data', '']) {
      const { status } = await send(operation.method, path, { body: '{}', headers: { ...await rightCaller(operation, path, '{}'), 'content-type': type } })
      expect([type, status]).toEqual([type, 415])
    }
    expect(await dump()).toEqual(before)
  })

  it.each(operations.filter(({ body, method }) => body === undefined && method !== 'GET'))('$id takes no body', async (operation) => {
    const path = filled(operation.path)
    const { status } = await send(operation.method, path, { body: '{}', headers: await rightCaller(operation, path, '{}') })
    expect(status).toBe(413)
  })

  const hostile = ['\' OR 1=1 --', '..%2f..%2fetc%2fpasswd', '%00', '%', '%ff', 'A'.repeat(5000), '%3Cscript%3E', '%E2%80%AEgnp', `${'f'.repeat(32)}%27`, `${'f'.repeat(32)}%0A`, 'F'.repeat(32), 'SPGW00000000000F%0a']
  it.each(operations.filter(({ params }) => params !== undefined))('$id refuses SQL, paths and markup in its path', async (operation) => {
    const before = await dump()
    for (const value of hostile) {
      const path = filled(operation.path, value.includes('%') ? value : encodeURIComponent(value))
      const text = operation.body === undefined ? '' : '{}'
      const { status, json } = await send(operation.method, path, { body: text === '' ? undefined : text, headers: await rightCaller(operation, path, text) })
      expect([value, [404, 422].includes(status), refusalOf(json).success]).toEqual([value, true, true])
    }
    expect(await dump()).toEqual(before)
  })

  it.each(operations.filter(({ query, surface }) => query !== undefined && surface !== 'fabric' && surface !== 'crl'))('$id refuses a page that is none, and reads a hostile cursor as text', async (operation) => {
    for (const limit of ['0', '-1', '201', '1e9', 'x', '1;DROP TABLE endpoints', '']) {
      const path = `${filled(operation.path)}?limit=${encodeURIComponent(limit)}`
      expect([limit, (await send('GET', path, { headers: await rightCaller(operation, path, '') })).status]).toEqual([limit, 422])
    }
    for (const after of ['\' OR 1=1 --', '%', '\u0000', '../..']) {
      const path = `${filled(operation.path)}?after=${encodeURIComponent(after)}`
      expect((await send('GET', path, { headers: await rightCaller(operation, path, '') })).status).toBe(operation.path.includes('{') ? 404 : 200)
    }
    const long = `${filled(operation.path)}?after=${'x'.repeat(129)}`
    expect((await send('GET', long, { headers: await rightCaller(operation, long, '') })).status).toBe(422)
  })

  it('stands in the OpenAPI document, with its refusals', async () => {
    const { json } = await send('GET', '/openapi.json')
    expect(json.openapi).toBe('3.1.0')
    const paths = json.paths as Record<string, Record<string, { operationId: string; responses: Record<string, { content?: object }>; requestBody?: { required: boolean } }>>
    for (const operation of operations) {
      const documented = paths[operation.path]?.[operation.method.toLowerCase()]
      expect([documented?.operationId, Object.keys(documented?.responses.default?.content ?? {}).length > 0, documented?.requestBody?.required]).toEqual([operation.id, true, operation.body === undefined ? undefined : true])
    }
  })

  it('answers an unknown path and an unknown method with a problem', async () => {
    for (const [method, path] of [['GET', '/nothing'], ['DELETE', '/api/v1/health'], ['GET', '/api/v1/admin/../../etc/passwd']] as const) {
      const { status, json } = await send(method, path)
      expect([status, refusalOf(json).success]).toEqual([404, true])
    }
  })
})
