// What administrators configure holds together whoever else is at it; what is refused, and what is not there, leaves no trace; what endpoints may store is bounded.
import { describe, expect, it } from 'vitest'
import { sha256Hex } from '../../../identity/keys.ts'
import { toBase64 } from '../../../identity/encoding.ts'
import { operations } from '../../../protocol/operations/all.ts'
import { dump } from '../dump.ts'
import { admin, enrolled, linux, report, send, sendTo, signed, TOKEN } from '../ems.ts'
import { envWith, interposed, real, reEvaluated } from '../standing.ts'

const { DB } = real
const policy = (profileId: string, name = 'p') => ({ name, position: 1, profileId })
const created = async (path: string, body: object) => String((await admin('POST', path, body)).json.id)
/** Does something once before a statement that begins so. */
const before = (beginning: string, action: () => Promise<unknown>) => {
  let done = false
  return envWith({ DB: interposed(DB, { before: async (sql) => {
    if (done || !sql.some((each) => each.startsWith(beginning))) return
    done = true
    await action()
  } }) })
}
const asAdministrator = { authorization: `Bearer ${TOKEN}` }

describe('a profile', () => {
  it('that a policy comes to name in the instant it is removed stays', async () => {
    const id = await created('/profiles', { name: 'x', settings: {} })
    const { code } = await sendTo(before('delete from "profiles"', () => admin('POST', '/endpoint-policies', policy(id))), 'DELETE', `/api/v1/admin/profiles/${id}`, { headers: asAdministrator })
    expect([code, ((await admin('GET', '/profiles')).json.items as { id: string }[]).some((each) => each.id === id)]).toEqual(['conflict', true])
  })
  it('that is removed in the instant a policy names it makes no policy of nothing', async () => {
    const id = await created('/profiles', { name: 'x', settings: {} })
    const { code } = await sendTo(before('insert into "endpoint_policies"', () => admin('DELETE', `/profiles/${id}`)), 'POST', '/api/v1/admin/endpoint-policies', { body: policy(id, 'orphan'), headers: asAdministrator })
    expect([code, ((await admin('GET', '/endpoint-policies')).json.items as { name: string }[]).some(({ name }) => name === 'orphan')]).toEqual(['invalid', false])
  })
})

describe('what is not there', () => {
  const bodies: Record<string, object> = {
    'replace-rule-set': { name: 'n', tag: 't', rules: { linux: { conditions: [{ type: 'os-version', comparator: '>=', version: '1' }] } } }, 'replace-profile': { name: 'n', settings: {} },
    'replace-endpoint-policy': policy('00000000-0000-4000-8000-000000000001'), 'authorise-gateway': { fingerprint: 'AA' }, 'deauthorise-gateway': {}, 'deregister-endpoint': {}, 'put-sandbox-detections': { detections: [] }, 'put-firewall-threats': { detections: [] }, 'put-score': { score: 1 }, 'revoke-certificate': {}, 'check-now': {}, 'fabric-update': {},
    'set-ownership': { ownership: 'corporate' }, 'set-gateway-fabric': { place: {} }, 'assign-tag': { uids: ['f'.repeat(32)] }, 'clear-tag': { uids: ['f'.repeat(32)] },
  }
  const absent = (path: string) => path.replace('{uid}', 'f'.repeat(32)).replace('{kind}', 'scores').replace('{sn}', 'SPGW00000000000F').replace('{serial}', path.includes('/gateways/') ? 'SPGW00000000000F' : 'A'.repeat(40))
    .replace('/decisions/{id}', '/decisions/D00000000000F-0123456789ABCDEF').replaceAll(/\{\w+\}/g, '00000000-0000-4000-8000-000000000009')
  // An identity provider is set by its name: one that is not there is made.
  const changing = operations.filter(({ caller, params, id }) => caller === 'administrator' && params !== undefined && id !== 'set-identity-provider' && !id.includes('advisor') && !id.includes('package'))
  it.each(changing)('is not found by $id, and nothing is stored for it', async (operation) => {
    await enrolled()
    await admin('GET', '/profiles')
    const stored = await dump()
    const { status, json } = await send(operation.method, absent(operation.path), { body: operation.body === undefined ? undefined : bodies[operation.id] ?? {}, headers: asAdministrator })
    expect([status, (json.problem as { code?: string } | undefined)?.code ?? json.code]).toEqual([404, 'not_found'])
    expect(await dump()).toEqual(stored)
  })
})

describe('rule sets', () => {
  it('made forty at once are forty, each with its tag, and some sharing one', async () => {
    const answers = await Promise.all(Array.from({ length: 40 }, (_, n) => admin('POST', '/rule-sets', { name: `r${n}`, tag: `t${n % 10}`, rules: { linux: { conditions: [{ type: 'ems-management' }] } } })))
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]))
    const { items } = (await admin('GET', '/tags?limit=200')).json as { items: { uid: string }[] }
    const of = new Set(answers.map(({ json }) => json.tagUid))
    expect([of.size, [...of].every((uid) => items.some((tag) => tag.uid === uid))]).toEqual([10, true])
    await Promise.all(answers.map(({ json }) => admin('DELETE', `/rule-sets/${String(json.id)}`)))
    expect((await admin('GET', '/tags')).json.items).toEqual([])
  })
  it('edited by two at once keep what was saved last, whole, and neither edit is lost to an older reading', async () => {
    const of = (version: string, more: object = {}) => ({ name: 'n', tag: 't', rules: { linux: { conditions: [{ type: 'os-version', comparator: '>=', version }] } }, ...more })
    const endpoint = await enrolled()
    await report(endpoint, 1, { os: linux('1.5') })
    const id = await created('/rule-sets', of('1'))
    await reEvaluated()
    // One only renames; meanwhile the other changes what it decides: the name must not bring the old meaning back unnoticed.
    const other = async () => {
      await admin('PUT', `/rule-sets/${id}`, of('2'))
      await reEvaluated()
    }
    const renaming = await sendTo(before('update "rule_sets"', other), 'PUT', `/api/v1/admin/rule-sets/${id}`, { body: of('1', { name: 'renamed' }), headers: asAdministrator })
    expect(renaming.status).toBe(200)
    const [row] = ((await admin('GET', '/rule-sets')).json.items as { name: string; rules: object }[])
    await reEvaluated()
    const { tags } = (await admin('GET', `/endpoints/${endpoint.uid}`)).json as { tags: { state: string }[] }
    expect([row?.name, JSON.stringify(row?.rules).includes('"1"'), tags.map(({ state }) => state)]).toEqual(['renamed', true, ['present']])
  })
})

describe('pictures', () => {
  const png = (n: number) => toBase64(new Uint8Array([0x89, 0x50, 0x4e, 0x47, n]))
  const kept = async (uid: string) => (await DB.prepare('SELECT fingerprint FROM avatars WHERE uid = ?').bind(uid).all<{ fingerprint: string }>()).results.map(({ fingerprint }) => fingerprint)
  it('of an endpoint are two at most: the newest, and the one before it', async () => {
    const endpoint = await enrolled()
    const prints: string[] = []
    for (let n = 0; n < 6; n++) prints.push(String((await signed(endpoint, 'PUT', '/api/v1/endpoint/avatar', { mediaType: 'image/png', image: png(n) })).json.fingerprint))
    expect((await kept(endpoint.uid)).sort()).toEqual(prints.slice(-2).sort())
    expect(prints[5]).toBe(await sha256Hex(new Uint8Array([0x89, 0x50, 0x4e, 0x47, 5])))
  })
  it('that two have in common outlive it when one takes another', async () => {
    const [one, other] = [await enrolled(), await enrolled()]
    const put = (endpoint: typeof one, n: number) => signed(endpoint, 'PUT', '/api/v1/endpoint/avatar', { mediaType: 'image/png', image: png(n) })
    await put(one, 50)
    const shared = String((await put(other, 50)).json.fingerprint)
    for (let n = 51; n < 54; n++) await put(one, n)
    expect([await kept(other.uid), (await kept(one.uid)).includes(shared)]).toEqual([[shared], false])
  })
  it('that are none are refused', async () => {
    const endpoint = await enrolled()
    for (const image of ['', 'AAAA', toBase64(new TextEncoder().encode('<svg onload=alert(1)>'))]) expect((await signed(endpoint, 'PUT', '/api/v1/endpoint/avatar', { mediaType: 'image/png', image })).code).toBe('invalid')
    expect((await signed(endpoint, 'PUT', '/api/v1/endpoint/avatar', { mediaType: 'image/jpeg', image: png(1) })).code).toBe('invalid')
  })
})
