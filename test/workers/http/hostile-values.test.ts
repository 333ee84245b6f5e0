// Every text that an operation takes, replaced one by one: by control and direction characters, by halves of characters, by SQL, paths and markup.
// What deceives is refused and stores nothing; what is text stays text, and nothing that is logged can forge a line.
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi, type MockInstance } from 'vitest'
import { generateKey } from '../../../identity/keys.ts'
import { createCsr } from '../../../identity/request.ts'
import { problem } from '../../../protocol/faults.ts'
import type { Operation } from '../../../protocol/operation.ts'
import { operations } from '../../../protocol/operations/all.ts'
import { dump } from '../dump.ts'
import { admin, enrolBody, enrolled, invite, joinedByCode, linux, reportBody, send, signedText, TOKEN, type Endpoint, type Gateway } from '../ems.ts'
import { envWith, interposed, real } from '../standing.ts'
import { createExecutionContext } from 'cloudflare:test'
import worker from '../../../workers/index.ts'

type Json = null | boolean | number | string | Json[] | { [key: string]: Json }
/** What deceives a reader or forges a line. */
const deceptive = ['a\u0000b', 'a\nb', 'a\r\nSet-Cookie: x=1', 'a\u001b[2Jb', 'a\u0085b', 'a\u202eb', 'a\u2066b', 'a\u2028b', 'a\u061cb', 'a\ufeffb', 'a\ud800', '\udc00a']
/** Text, for whoever has a field for text: never SQL, a path, or markup. */
const texts = ['\'; DROP TABLE endpoints; --', '" OR ""="', '../../../../etc/passwd', '..\\..\\x', '<script>alert(1)</script>', '<img src=x onerror=alert(1)>', '{{7*7}}', '${jndi:ldap://x}', '%00%0a', '=cmd|\' /C calc\'!A0', '🦊'.repeat(8), 'ـ'.repeat(20)]

/** Every string in a value, and the value with it replaced. */
function* replaced(value: Json, by: string, at = ''): Generator<{ at: string; value: Json }> {
  if (typeof value === 'string') yield { at, value: by }
  else if (Array.isArray(value)) for (const [index, each] of value.entries()) for (const inner of replaced(each, by, `${at}/${index}`)) yield { at: inner.at, value: value.with(index, inner.value) }
  else if (typeof value === 'object' && value !== null) for (const [key, each] of Object.entries(value)) for (const inner of replaced(each, by, `${at}/${key}`)) yield { at: inner.at, value: { ...value, [key]: inner.value } }
}

const uuid = '00000000-0000-4000-8000-000000000001'
const conditions: Json[] = [{ type: 'file', path: '/etc/x', sha256: 'a'.repeat(64) }, { type: 'running-process', name: 'sshd', path: '/usr/sbin/sshd' }, { type: 'os-version', comparator: '>=', version: '12', name: 'Debian' }, { type: 'ip-range', ranges: ['10.0.0.0/8'] }, { type: 'vulnerable-devices', severity: 'high' },
  { type: 'ad-group', groups: ['g'] }, { type: 'logged-in-domain', domains: ['d'] }, { type: 'antivirus', product: 'p' }, { type: 'certificate', subject: { is: 's' }, issuer: { like: 'i*' } }, { type: 'user-identity', verified: true, users: ['u'], groups: ['g'], issuer: 'i' }, { type: 'custom', expression: 'os.type == "linux"', wanted: 'w', mend: 'm' }]
const logic = conditions.map((_, index) => index + 1).join(' and ')
const settings = { invalidCertificateAction: 'deny', gateways: [{ serial: 'SPGW000000000001', host: 'gate.example.com', port: 443 }], destinations: [{ match: '*.example.com', ports: [443], gateway: 'SPGW000000000001' }], userMaySet: ['phone'] }
const sections = {
  os: linux(), user: { account: 'alice', domain: 'x', fullName: 'Alice', email: 'a@example.com', phone: '+1 2', socialIds: [{ service: 's', accountId: 'i' }] },
  network: { interfaces: [{ name: 'eth0', mac: '02:00:00:00:00:01', addresses: [{ ip: '10.0.0.1', prefix: 24 }] }], defaultGateways: [{ ip: '10.0.0.254', interface: 'eth0' }], dnsServers: ['10.0.0.53'] },
  hardware: { hostName: 'laptop', manufacturer: 'm', model: 'm', serial: 's', cpu: 'c', cores: 1, memoryBytes: 1 }, agent: { version: '1', protocol: '7.0.0', profileVersion: 0, rulesVersion: 0 },
  vulnerabilities: { scannedAt: 1, scanner: 's', found: [{ id: 'CVE-1', name: 'n', severity: 'high', package: 'p' }] },
  antivirus: { products: [{ name: 'n', version: 'v', running: 'on', signaturesVersion: 's', source: 'clamav' }] }, directory: { joined: [{ kind: 'ldap', domain: 'd' }], loggedInDomain: 'd', groups: [{ name: 'g', sid: 's' }], groupsFrom: 'token' },
  verdicts: { answers: { [`ck_${'0'.repeat(32)}`]: { value: 'true', seen: 's', at: 1 } } },
}

describe('hostile values', () => {
  let endpoint: Endpoint
  let gateway: Gateway
  let bodies: Record<string, Json>
  let logged: MockInstance
  beforeAll(async () => {
    [endpoint, gateway] = await Promise.all([enrolled(), joinedByCode()])
    const csr = await createCsr(await generateKey(), 'x')
    const body = await reportBody(1, sections as never)
    bodies = {
      'introduce': { challenge: 'ab'.repeat(32), pin: 'cd'.repeat(32) }, 'enrol': await enrolBody(await invite(), await generateKey()),
      'renew': { csr }, 'browser-certificate': { csr, user: 'alice' }, 'report': JSON.parse(JSON.stringify(body)) as Json, 'put-avatar': { mediaType: 'image/png', image: 'iVBORw0KGgo=' },
      'create-invitation': { name: 'n', group: 'g' }, 'deregister-endpoint': { reason: 'r' }, 'create-rule-set': { name: 'n', tag: 't', message: 'm', comment: 'c', rules: { linux: { conditions, logic } } },
      'replace-rule-set': { name: 'n', tag: 't', rules: { linux: { conditions } } }, 'dry-run-rule-set': { ruleSet: { name: 'n', tag: 't', message: 'm', comment: 'c', rules: { linux: { conditions, logic } } } }, 'create-profile': { name: 'n', settings }, 'replace-profile': { name: 'n', settings },
      'create-endpoint-policy': { name: 'n', position: 1, groups: ['g'], profileId: uuid }, 'replace-endpoint-policy': { name: 'n', position: 1, groups: ['g'], profileId: uuid },
      'put-score': { score: 1 }, 'put-sandbox-detections': { detections: [{ name: 'n', severity: 'high', sha256: 'a'.repeat(64) }] }, 'put-firewall-threats': { detections: [{ name: 'n', severity: 'high', category: 'c' }] },
      'create-tag': { name: 'n', type: 3, description: 'd' }, 'assign-tag': { uids: [endpoint.uid], source: 's', reason: 'r' }, 'clear-tag': { uids: [endpoint.uid], source: 's' },
      'import-pack': { name: 'n', version: '1', issuedAt: '2026-11-25', description: 'd', tags: [{ name: 't', type: 'outbreak', description: 'd' }], ruleSets: [{ name: 'n', tag: 't', message: 'm', comment: 'c', rules: { linux: { conditions, logic } } }] },
      'begin-sign-in': { provider: 'p' }, 'sign-in': { provider: 'p', idToken: 'a.b.c' }, 'set-identity-provider': { issuer: 'https://id.example.com', clientId: 'c', clientSecret: 's', scopes: ['openid'], groupsClaim: 'g', trustEmail: 'verified' },
      'set-ownership': { ownership: 'corporate' }, 'set-gateway-fabric': { place: { networks: ['10.0.0.0/8'] } },
      'set-importance': { uids: [endpoint.uid], importance: 'high', source: 's', reason: 'r' }, 'issue-licence': { features: ['all'] }, 'authorise-gateway': { fingerprint: 'AA' }, 'deauthorise-gateway': { reason: 'r' }, 'create-join-code': { name: 'n' },
      'fabric-join': { serial_number: 'n', management_ip: '10.0.0.1', host_name: 'h', vdom: 'v', csr, join_code: 'x' }, 'fabric-renew': { csr }, 'fabric-disconnect': { fgt_sns: ['SPGW00000000000F'] },
      'fabric-update': { selected_cn_list: ['SPGW00000000000F'], alias: 'a' }, 'fabric-update-auth': { devices_to_update: [{ id: 'SPGW00000000000F', authorized: false }] },
    }
  })
  beforeEach(() => { logged = vi.spyOn(console, 'log') })
  afterEach(() => { logged.mockRestore() })
  /** Every line is one JSON object in printable characters. */
  const linesLogged = () => logged.mock.calls.map(([line]) => {
    // eslint-disable-next-line no-control-regex -- naming control characters is the point
    expect(String(line)).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]/u)
    return JSON.parse(String(line)) as Record<string, unknown>
  })
  const filled = (path: string) => path.replace('{uid}', endpoint.uid).replace('{sn}', gateway.serial).replace('{serial}', path.includes('/gateways/') ? gateway.serial : 'A'.repeat(40)).replaceAll(/\{\w+\}/g, '00000000-0000-4000-8000-000000000009')
  const call = async (operation: Operation, body: Json) => {
    const [path, text] = [filled(operation.path), JSON.stringify(body)]
    const caller = operation.caller === 'administrator' ? { authorization: `Bearer ${TOKEN}` } : operation.signedByBareKey === true ? await signedText({ keys: await generateKey() }, operation.method, path, text)
      : operation.caller === 'nobody' ? {} : await signedText(operation.caller === 'endpoint' ? endpoint : gateway, operation.method, path, text)
    return await send(operation.method, path, { body: text, headers: caller })
  }

  it('are tried on every operation that takes a text of people', () => {
    const untried = operations.filter(({ id, body }) => body !== undefined && bodies[id] === undefined).map(({ id }) => id)
    // These take numbers, closed names and identifiers only; the walk of every operation has them.
    expect(untried.filter((id) => !/^(report-|documents|roll-authority|rewrap-keys|revoke-certificate|check-now|sign-out-endpoint|fabric-vouch|fabric-gateway|fabric-vpn|find-|.*advisor)/.test(id))).toEqual([])
  })

  it.each(operations.filter(({ body }) => body !== undefined))('$id refuses what deceives, wherever it stands, and stores nothing', async (operation) => {
    const valid = bodies[operation.id]
    if (valid === undefined) return
    const before = await dump()
    for (const by of deceptive) {
      for (const { at, value } of replaced(valid, by)) {
        const { status, json } = await call(operation, value)
        expect([at, by, [400, 401, 403, 404, 409, 422].includes(status), problem.safeParse(json.problem ?? json).success]).toEqual([at, by, true, true])
      }
    }
    expect(await dump()).toEqual(before)
    expect(linesLogged()).toEqual([])
  }, 180_000)

  it.each(operations.filter(({ id }) => ['create-invitation', 'create-tag', 'set-importance', 'import-pack', 'create-rule-set', 'create-profile', 'create-endpoint-policy', 'issue-licence', 'create-join-code', 'browser-certificate', 'enrol', 'deregister-endpoint'].includes(id)))('$id takes SQL, paths and markup as text or refuses them, and never fails', async (operation) => {
    const valid = bodies[operation.id] ?? null
    const tables = Object.keys(await dump())
    for (const by of texts) {
      for (const { at, value } of replaced(valid, by)) {
        const { status } = await call(operation, value)
        expect([at, by, status < 500]).toEqual([at, by, true])
      }
    }
    expect(Object.keys(await dump())).toEqual(tables)
    expect(linesLogged()).toEqual([])
  }, 180_000)

  it('reported as facts come back as they were, and are nothing but text', async () => {
    const own = await enrolled()
    let sequence = 0
    for (const by of texts) {
      const hardware = { ...sections.hardware, hostName: by, model: by, serial: by }
      const user = { ...sections.user, account: by, fullName: by }
      const body = JSON.stringify(await reportBody(++sequence, { hardware, user }))
      const path = '/api/v1/endpoint/report'
      expect((await send('POST', path, { body, headers: await signedText(own, 'POST', path, body) })).status).toBe(200)
      const { json } = await admin('GET', `/endpoints/${own.uid}`)
      expect([json.hostName, json.account, (json.facts as { hardware: { value: unknown } }).hardware.value]).toEqual([by, by, hardware])
    }
  })

  it('in the header that tells where a request comes from are nobody’s address', async () => {
    const own = await enrolled()
    const path = '/api/v1/endpoint/report'
    const addressOf = async (told: string, sequence: number) => {
      const body = JSON.stringify(await reportBody(sequence, { os: linux(`13.${sequence}`) }))
      expect((await send('POST', path, { body, headers: { ...await signedText(own, 'POST', path, body), 'cf-connecting-ip': told } })).status).toBe(200)
      return (await real.DB.prepare('SELECT public_ip FROM endpoints WHERE uid = ?').bind(own.uid).first<{ public_ip: string }>())?.public_ip
    }
    expect([await addressOf('<script>alert(1)</script>', 1), await addressOf('203.0.113.7', 2), await addressOf('203.0.113.7, 10.0.0.1', 3)]).toEqual(['', '203.0.113.7', '203.0.113.7'])
  })

  it('of a failing database are not told: neither to the caller nor in the log', async () => {
    const failing = envWith({ DB: interposed(real.DB, { before: () => { throw new Error('D1_ERROR: no such table: x\n{"event":"forged"}\u2028\u202e') } }) })
    const name = `secret-${crypto.randomUUID()}`
    const response = await worker.fetch(new Request('https://ems.test/api/v1/admin/invitations', { method: 'POST', headers: { 'authorization': `Bearer ${TOKEN}`, 'content-type': 'application/json' }, body: JSON.stringify({ name, group: name }) }), failing, createExecutionContext())
    expect([response.status, (await response.text()).includes('D1_ERROR')]).toEqual([500, false])
    const [line] = linesLogged()
    expect([line?.event, String(line?.cause).includes('D1_ERROR'), JSON.stringify(line).includes(name)]).toEqual(['fault', true, false])
  })

  it('in cursors, which are read as text, find nothing and break nothing', async () => {
    for (const by of [...deceptive, ...texts]) {
      for (const list of ['invitations', 'endpoints', 'rule-sets', 'tags', 'profiles', 'endpoint-policies', 'gateways', 'identity-providers']) {
        expect([list, by, (await admin('GET', `/${list}?after=${encodeURIComponent(by.toWellFormed())}`)).status]).toEqual([list, by, 200])
      }
    }
    expect(linesLogged()).toEqual([])
  })
})
