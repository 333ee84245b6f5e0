// A reply may be lost after any commit: of enrolment, of renewal, of a browser's certificate, of a roll-over. Whoever asks again gets what was made, once.
import { beforeEach, describe, expect, it } from 'vitest'
import { readCertificate, trustAuthority } from '../../../identity/certificate.ts'
import { openDocument } from '../../../identity/document.ts'
import { generateKey } from '../../../identity/keys.ts'
import { createCsr } from '../../../identity/request.ts'
import { forgetAuthorities } from '../../../workers/flows/authority.ts'
import type { Env } from '../../../workers/env.ts'
import { admin, der, enrolBody, enrolled, invite, send, sendTo, signatureOf, signed, type Answer, type Endpoint } from '../ems.ts'
import { envWith, interposed, real } from '../standing.ts'

const { DB } = real
const tags = '/api/v1/endpoint/tags'
const count = async (sql: string, ...values: unknown[]) => (await DB.prepare(`SELECT count(*) AS n FROM ${sql}`).bind(...values).first<{ n: number }>())?.n
const quiet = { status: 0, code: '', json: {} } satisfies Answer

/** Bindings whose database loses its answer after the n-th trip that wrote something. */
function losing(nth: number): { bindings: Env; lost(): boolean } {
  let writes = 0
  const bindings = envWith({ DB: interposed(DB, { after: ({ rowsWritten }) => { if (rowsWritten > 0 && ++writes === nth) throw new Error('the connection was lost') } }) })
  return { bindings, lost: () => writes >= nth }
}
/** Asks with the answer of the first commit lost, of the second, and so on until there is none to lose; tells how many there were. */
async function afterEveryCommit(attempt: (ask: (bindings: Env) => Promise<Answer>, lost: () => boolean) => Promise<void>, ask: (bindings: Env) => Promise<Answer>): Promise<number> {
  for (let nth = 1; nth < 20; nth++) {
    const { bindings, lost } = losing(nth)
    let cut = false
    await attempt(async (given) => {
      const answer = await ask(given === real ? real : bindings)
      cut ||= lost()
      return answer
    }, lost)
    if (!cut) return nth - 1
  }
  throw new Error('it never ends')
}
const emptied = async (...tables: string[]) => {
  await DB.batch(tables.map((table) => DB.prepare(`DELETE FROM ${table}`)))
  forgetAuthorities()
}

describe('enrolment', () => {
  it('of the very first endpoint, whose reply is lost after any commit, makes one CA, one endpoint and one certificate', async () => {
    let [invitation, keys]: [string, CryptoKeyPair] = ['', await generateKey()]
    const ask = async (bindings: Env) => await sendTo(bindings, 'POST', '/api/v1/endpoint/enrol', { body: await enrolBody(invitation, keys) })
    const commits = await afterEveryCommit(async (enrol, lost) => {
      invitation = await invite()
      // As on the first day; the invitation stands, for an administrator made it.
      await emptied('authorities', 'ems', 'licences', 'profiles', 'endpoint_policies', 'endpoints', 'certificates', 'invitation_spends', 'change_log')
      keys = await generateKey()
      const first = await enrol(envWith({}))
      expect(first.status).toBe(lost() ? 500 : 200)
      const again = await enrol(real)
      expect(again.status).toBe(200)
      if (first.status === 200) expect([again.json.uid, again.json.certificate]).toEqual([first.json.uid, first.json.certificate])
      expect(await Promise.all([count('authorities'), count('endpoints'), count('certificates'), count('invitation_spends'), count('licences'), count('profiles'), count('change_log')])).toEqual([1, 1, 1, 1, 1, 1, 1])
      const endpoint: Endpoint = { uid: String(again.json.uid), keys, certificate: der(again.json.certificate) }
      expect((await signed(endpoint, 'GET', tags)).status).toBe(200)
      const { items } = (await admin('GET', '/authorities')).json as { items: { certificate: string }[] }
      const opened = await openDocument(String(again.json.rules), { kind: 'rules', to: endpoint.uid, authorities: [await trustAuthority(items[0]?.certificate ?? '')], now: Date.now() })
      expect(opened.ok).toBe(true)
    }, ask)
    // The CA, the endpoint, the defaults.
    expect(commits).toBe(3)
  })
  it('whose reply was lost gives another key nothing, and the same key nothing after an hour', async () => {
    const [invitation, keys] = [await invite({ uses: 2 }), await generateKey()]
    const { bindings } = losing(1)
    expect((await sendTo(bindings, 'POST', '/api/v1/endpoint/enrol', { body: await enrolBody(invitation, keys) })).status).toBe(500)
    await DB.prepare('UPDATE invitation_spends SET at = at - 3600001').run()
    expect((await send('POST', '/api/v1/endpoint/enrol', { body: await enrolBody(invitation, keys) })).code).toBe('invitation_refused')
  })
})

describe('a certificate', () => {
  let endpoint: Endpoint
  beforeEach(async () => { endpoint = await enrolled() })
  const asking = (path: string, body: object) => async (bindings: Env) => await sendTo(bindings, 'POST', path, { body, headers: await signatureOf(endpoint, 'POST', path, body) })

  it('renewed, whose reply is lost after any commit, is the same when asked for again; the old one works until the new one is used', async () => {
    const path = '/api/v1/endpoint/renew'
    let [csr, keys] = ['', await generateKey()]
    const commits = await afterEveryCommit(async (renew, lost) => {
      endpoint = await enrolled()
      keys = await generateKey()
      csr = await createCsr(keys, 'x')
      const first = await renew(envWith({}))
      expect(first.status).toBe(lost() ? 500 : 200)
      expect((await signed(endpoint, 'GET', tags)).status).toBe(200)
      const again = await renew(real)
      expect([again.status, await count('certificates WHERE uid = ? AND state = \'fresh\'', endpoint.uid)]).toEqual([200, 1])
      const renewed = { ...endpoint, keys, certificate: der(again.json.certificate) }
      expect((await signed(renewed, 'GET', tags)).status).toBe(200)
      expect((await signed(endpoint, 'GET', tags)).code).toBe('certificate_revoked')
      const { certificates } = (await admin('GET', `/endpoints/${endpoint.uid}`)).json as { certificates: { serial: string }[] }
      expect(certificates.map(({ serial }) => serial)).toEqual([readCertificate(renewed.certificate)?.serial])
    }, (bindings) => asking(path, { csr })(bindings))
    expect(commits).toBe(1)
  })
  it('whose first use loses its reply after any commit is in use, and the one before is not', async () => {
    const keys = await generateKey()
    const csr = await createCsr(keys, 'x')
    const renewed = { ...endpoint, keys, certificate: der((await asking('/api/v1/endpoint/renew', { csr })(real)).json.certificate) }
    const commits = await afterEveryCommit(async (use) => { await use(envWith({})) }, async (bindings) => await sendTo(bindings, 'GET', tags, { headers: await signatureOf(renewed, 'GET', tags) }))
    expect([commits, (await signed(renewed, 'GET', tags)).status, (await signed(endpoint, 'GET', tags)).code]).toEqual([1, 200, 'certificate_revoked'])
  })
  it('renewed by a key that is abandoned leaves the endpoint with the certificate it has', async () => {
    const { bindings } = losing(1)
    await asking('/api/v1/endpoint/renew', { csr: await createCsr(await generateKey(), 'x') })(bindings)
    const keys = await generateKey()
    const { json } = await asking('/api/v1/endpoint/renew', { csr: await createCsr(keys, 'x') })(real)
    expect([(await signed(endpoint, 'GET', tags)).status, await count('certificates WHERE uid = ? AND state = \'fresh\'', endpoint.uid)]).toEqual([200, 1])
    expect((await signed({ ...endpoint, keys, certificate: der(json.certificate) }, 'GET', tags)).status).toBe(200)
  })
  it('of a browser, whose reply is lost after any commit, is made once', async () => {
    let csr = ''
    const path = '/api/v1/endpoint/browser-certificate'
    const commits = await afterEveryCommit(async (ask) => {
      endpoint = await enrolled()
      csr = await createCsr(await generateKey(), 'x')
      await ask(envWith({}))
      expect([(await ask(real)).status, await count('certificates WHERE uid = ? AND purpose = \'browser\'', endpoint.uid)]).toEqual([200, 1])
    }, (bindings) => asking(path, { csr, user: 'alice' })(bindings))
    expect(commits).toBe(1)
  })
  it('expired, or the one before the last, asks for a new one and gets it, also when the first reply is lost', async () => {
    await DB.prepare('UPDATE certificates SET state = \'retired\' WHERE uid = ?').bind(endpoint.uid).run()
    const keys = await generateKey()
    const csr = await createCsr(keys, 'x')
    const ask = asking('/api/v1/endpoint/renew', { csr })
    await ask(losing(1).bindings)
    const { json } = await ask(real)
    expect((await signed({ ...endpoint, keys, certificate: der(json.certificate) }, 'GET', tags)).status).toBe(200)
  })
})

describe('an administrator’s call', () => {
  it('that deregisters, whose reply is lost after its commit, has cut the endpoint off; the same again changes nothing', async () => {
    const endpoint = await enrolled()
    const call = (bindings: Env) => sendTo(bindings, 'POST', `/api/v1/admin/endpoints/${endpoint.uid}/deregister`, { body: {}, headers: { authorization: `Bearer ${real.ADMIN_TOKEN}` } })
    expect((await call(losing(1).bindings)).status).toBe(500)
    expect((await signed(endpoint, 'GET', tags)).code).toBe('deregistered')
    const before = await count('change_log')
    expect([(await call(real)).status, await count('change_log')]).toEqual([200, before])
  })
  it('that rolls the CA over, whose reply is lost, has told of it: no agent is left believing the old list', async () => {
    const endpoint = await enrolled()
    const versions = async () => ((await signed(endpoint, 'POST', '/api/v1/endpoint/report', { sequence: 0, sections: {}, hashes: {} })).json.documents as { authorities: number }).authorities
    const before = await versions()
    const answer = await sendTo(losing(1).bindings, 'POST', '/api/v1/admin/authorities/roll', { body: {}, headers: { authorization: `Bearer ${real.ADMIN_TOKEN}` } }).catch(() => quiet)
    forgetAuthorities()
    expect([answer.status, ((await admin('GET', '/authorities')).json.items as unknown[]).length, await versions() > before]).toEqual([500, 2, true])
  })
})
