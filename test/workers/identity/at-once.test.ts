// Many at once, and things that happen in the same instant: invitations are counted, seats are budgets, and what was withdrawn is.
import { describe, expect, it } from 'vitest'
import { generateKey } from '../../../identity/keys.ts'
import { createCsr } from '../../../identity/request.ts'
import { admin, der, enrolBody, enrolled, invite, send, sendTo, signatureOf, signed, type Answer } from '../ems.ts'
import { meter } from '../meter.ts'
import { envWith, interposed, real } from '../standing.ts'

const { DB } = real
const tags = '/api/v1/endpoint/tags'
const enrol = async (invitation: string, bindings = real): Promise<Answer> => sendTo(bindings, 'POST', '/api/v1/endpoint/enrol', { body: await enrolBody(invitation, await generateKey()) })
const codes = (answers: readonly Answer[]) => Object.fromEntries([...Map.groupBy(answers, ({ code }) => code)].map(([code, all]) => [code, all.length]))
const endpoints = async () => (await DB.prepare('SELECT count(*) AS n FROM endpoints WHERE registered = 1').first<{ n: number }>())?.n ?? 0
/** Does something once, between what enrolment has read and what it writes. */
const between = (action: () => Promise<unknown>) => {
  let done = false
  return envWith({ DB: interposed(DB, { before: async (sql) => {
    if (done || !sql.some((each) => each.startsWith('insert into "invitation_spends"'))) return
    done = true
    await action()
  } }) })
}

describe('an invitation', () => {
  it('for seven enrols seven of forty at once, and counts them', async () => {
    const { json } = await admin('POST', '/invitations', { name: 'seven', uses: 7 })
    const [invitation, before] = [await invite({ uses: 7 }), await endpoints()]
    expect(codes(await Promise.all(Array.from({ length: 40 }, () => enrol(invitation))))).toEqual({ '': 7, 'invitation_refused': 33 })
    expect(await endpoints()).toBe(before + 7)
    const { items } = (await admin('GET', '/invitations')).json as { items: { id: string; used: number; uses: number }[] }
    expect([items.find(({ id }) => id === json.id)?.used, items.filter(({ used, uses }) => used > uses)]).toEqual([0, []])
    expect(items.filter(({ used }) => used === 7)).toHaveLength(1)
  })
  it.each<[string, () => Promise<unknown>]>([
    ['withdrawn', async () => await Promise.all(((await admin('GET', '/invitations')).json.items as { id: string }[]).map(({ id }) => admin('DELETE', `/invitations/${id}`)))],
    ['expired', () => DB.prepare('UPDATE invitations SET expires_at = 1').run()],
    ['used up', () => DB.prepare('UPDATE invitations SET uses = 0').run()],
  ])('%s in the same instant enrols nobody', async (_, action) => {
    const [invitation, before] = [await invite(), await endpoints()]
    expect((await enrol(invitation, between(action))).code).toBe('invitation_refused')
    expect([await endpoints(), (await DB.prepare('SELECT count(*) AS n FROM invitation_spends s JOIN endpoints e ON e.uid = s.uid').first<{ n: number }>())?.n, before]).toEqual([before, before, before])
  })
  it('asked about by the same key in two requests that cross gives both the same', async () => {
    const [invitation, keys] = [await invite(), await generateKey()]
    const body = await enrolBody(invitation, keys)
    let crossing: Answer | null = null
    const bindings = between(async () => { crossing = await send('POST', '/api/v1/endpoint/enrol', { body }) })
    const answer = await sendTo(bindings, 'POST', '/api/v1/endpoint/enrol', { body })
    expect([answer.status, answer.json.uid, answer.json.certificate]).toEqual([200, (crossing as Answer | null)?.json.uid, (crossing as Answer | null)?.json.certificate])
  })
})

describe('seats', () => {
  it('are never more than the licence says, whoever comes at once, and each is told why there was none', async () => {
    const [invitation, taken] = [await invite({ uses: 100 }), await endpoints()]
    await admin('PUT', '/licence', { seats: taken + 3 })
    expect(codes(await Promise.all(Array.from({ length: 20 }, () => enrol(invitation))))).toEqual({ '': 3, 'no_seat': 17 })
    expect([await endpoints(), (await admin('GET', '/licence')).json.taken]).toEqual([taken + 3, taken + 3])
    await admin('PUT', '/licence', { seats: null })
  })
  it('taken, or a licence ended, in the same instant is said as that and spends nothing', async () => {
    const invitation = await invite()
    const taken = await endpoints()
    expect((await enrol(invitation, between(() => admin('PUT', '/licence', { seats: taken })))).code).toBe('no_seat')
    await admin('PUT', '/licence', { seats: null })
    expect((await enrol(invitation, between(() => admin('PUT', '/licence', { seats: null, endsAt: 1 })))).code).toBe('no_seat')
    await admin('PUT', '/licence', { seats: null })
    expect((await enrol(invitation)).status).toBe(200)
  })
  it('that are not limited are not counted: enrolment reads no more rows with more endpoints', async () => {
    const metered = meter(DB)
    const rows = async () => {
      const body = await enrolBody(await invite(), await generateKey())
      metered.reset()
      expect((await sendTo(envWith({ DB: metered.database }), 'POST', '/api/v1/endpoint/enrol', { body })).status).toBe(200)
      return metered.tally.rowsRead
    }
    const before = await rows()
    await Promise.all(Array.from({ length: 60 }, () => enrolled()))
    expect(await rows() - before).toBeLessThan(40)
  })
})

describe('certificates of one endpoint', () => {
  it('for browsers are 32 at most, however many ask at once', async () => {
    const endpoint = await enrolled()
    const path = '/api/v1/endpoint/browser-certificate'
    const ask = async (n: number) => {
      const body = { csr: await createCsr(await generateKey(), 'x'), user: `u${n}` }
      for (;;) {
        const answer = await send('POST', path, { body, headers: await signatureOf(endpoint, 'POST', path, body) })
        if (answer.code !== 'busy') return answer
      }
    }
    await DB.prepare('INSERT INTO certificates (serial, uid, purpose, os_user, key_hash, pem, not_after, state, issued_at) SELECT \'S\' || value, ?, \'browser\', value, value, \'\', 9e12, \'current\', 1 FROM json_each(?)').bind(endpoint.uid, JSON.stringify(Array.from({ length: 29 }, (_, n) => n))).run()
    expect(codes(await Promise.all(Array.from({ length: 7 }, (_, n) => ask(n))))).toEqual({ '': 3, 'too_many': 4 })
    const { certificates } = (await admin('GET', `/endpoints/${endpoint.uid}`)).json as { certificates: { purpose: string }[] }
    expect(certificates.filter(({ purpose }) => purpose === 'browser')).toHaveLength(3)
  })
  it('renewed by two keys at once leave one that is unused, and the records name it', async () => {
    const endpoint = await enrolled()
    const path = '/api/v1/endpoint/renew'
    const answers = await Promise.all(Array.from({ length: 4 }, async () => {
      const keys = await generateKey()
      const body = { csr: await createCsr(keys, 'x') }
      return { keys, ...await send('POST', path, { body, headers: await signatureOf(endpoint, 'POST', path, body) }) }
    }))
    const usable = []
    for (const { keys, json, status } of answers) {
      if (status === 200 && (await signed({ ...endpoint, keys, certificate: der(json.certificate) }, 'GET', tags)).status === 200) usable.push(keys)
    }
    expect(usable).toHaveLength(1)
  })
  it('revoked in the instant of their first use stay revoked', async () => {
    const endpoint = await enrolled()
    const [path, keys] = ['/api/v1/endpoint/renew', await generateKey()]
    const body = { csr: await createCsr(keys, 'x') }
    const { json } = await send('POST', path, { body, headers: await signatureOf(endpoint, 'POST', path, body) })
    const renewed = { ...endpoint, keys, certificate: der(json.certificate) }
    const { certificates } = (await admin('GET', `/endpoints/${endpoint.uid}`)).json as { certificates: { serial: string }[] }
    let done = false
    const bindings = envWith({ DB: interposed(DB, { before: async (sql) => {
      if (done || !sql.some((each) => each.startsWith('update "endpoints"'))) return
      done = true
      await admin('POST', `/endpoints/${endpoint.uid}/certificates/${certificates.at(-1)?.serial}/revoke`, {})
    } }) })
    expect((await sendTo(bindings, 'GET', tags, { headers: await signatureOf(renewed, 'GET', tags) })).code).toBe('certificate_revoked')
    expect((await signed(renewed, 'GET', tags)).code).toBe('certificate_revoked')
    expect((await signed(endpoint, 'GET', tags)).status).toBe(200)
  })
})
