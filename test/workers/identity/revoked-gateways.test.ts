// Certificates of gateways that were cut off, as agents are told of them: at once, signed for each, at a cost that does not grow with their number.
import { beforeEach, describe, expect, it } from 'vitest'
import { openDocument } from '../../../identity/document.ts'
import { generateKey } from '../../../identity/keys.ts'
import { createCsr } from '../../../identity/request.ts'
import { readCertificate } from '../../../identity/certificate.ts'
import type { ToAgent } from '../../../protocol/channel.ts'
import { trustedAuthorities } from '../../../workers/flows/authority.ts'
import { authoritiesDocument } from '../../../workers/flows/documents.ts'
import { authoritiesSigner } from '../../../workers/flows/presence.ts'
import { admin, der, enrolled, linux, report, sendTo, signed, TOKEN, type Endpoint } from '../ems.ts'
import { answerTo, by, CHANNEL, dataOf, init, joined, open, updateAuth, type Gateway, type Listening } from '../gateway.ts'
import { meter } from '../meter.ts'
import { contextOf, envWith, real } from '../standing.ts'

const is = (type: ToAgent['type']) => (message: ToAgent) => message.type === type
const serialOf = ({ certificate }: { certificate: Uint8Array<ArrayBuffer> }) => readCertificate(certificate)?.serial ?? ''
const cut = (gateway: Gateway) => admin('POST', `/gateways/${gateway.serial}/deauthorise`, { reason: 'stolen' })
const opened = async (to: string, document: string) => {
  const read = await openDocument(document, { kind: 'authorities', to, authorities: await trustedAuthorities(contextOf(real)), now: Date.now() })
  if (!read.ok) throw new Error(read.reason)
  return { version: read.payload.version, listed: read.payload.body.crl ?? [], certificates: read.payload.body.certificates }
}
const held = async (endpoint: Endpoint) => await opened(endpoint.uid, await authoritiesDocument(contextOf(real), endpoint.uid))

async function listening(endpoint: Endpoint): Promise<Listening<ToAgent>> {
  const channel = await open<ToAgent>(endpoint, CHANNEL)
  const challenge = await channel.next(is('challenge'))
  channel.socket.send(JSON.stringify({ type: 'answer', signature: await answerTo(endpoint, challenge.type === 'challenge' ? challenge.challenge : '', 'agent') }))
  await channel.next(is('welcome'))
  return channel
}

let endpoint: Endpoint
beforeEach(async () => { endpoint = await enrolled() })

describe('agents hear of a gateway that was cut off', () => {
  it('by their channel at once, each by a document of its own', async () => {
    const [gateway, other, second] = [await joined(), await joined(), await enrolled()]
    const [before, channels] = [await held(endpoint), await Promise.all([endpoint, second].map(listening))]
    expect(before.listed).not.toContain(serialOf(gateway))
    expect((await cut(gateway)).status).toBe(200)
    for (const [index, who] of [endpoint, second].entries()) {
      const sent = await channels[index]?.next((message) => message.type === 'document' && message.kind === 'authorities')
      const { version, listed } = await opened(who.uid, sent?.type === 'document' ? sent.document : '')
      expect([version > before.version, listed.includes(serialOf(gateway)), listed.includes(serialOf(other))]).toEqual([true, true, false])
    }
  })
  it('by asking, when they were away: the next reply says that there is a newer list', async () => {
    const gateway = await joined()
    const before = await held(endpoint)
    await cut(gateway)
    const { json } = await report(endpoint, 1, { os: linux() })
    const { authorities } = json.documents as { authorities: number }
    expect(authorities).toBeGreaterThan(before.version)
    const { documents } = (await signed(endpoint, 'POST', '/api/v1/endpoint/documents', { have: { profile: authorities, rules: authorities, licence: authorities, authorities: before.version } })).json as { documents: string[] }
    const newest = await opened(endpoint.uid, documents[0] ?? '')
    expect([newest.listed.includes(serialOf(gateway)), newest.version >= authorities]).toEqual([true, true])
  })
  it('also when whoever cut it off began before the list was signed and wrote after', async () => {
    const gateway = await joined()
    const startedAt = Date.now()
    const { version } = await held(endpoint)
    await cut(gateway)
    await real.DB.prepare('UPDATE rules_state SET changed_at = ? WHERE id = 3').bind(startedAt).run()
    expect(startedAt).toBeGreaterThan(version)
  })
  it('not of a certificate that its next one replaced, until that gateway is cut off too', async () => {
    const gateway = await joined()
    const keys = await generateKey()
    const { version } = await held(endpoint)
    const renewed = await by(gateway, 'POST', '/api/v1/fabric/renew', { csr: await createCsr(keys, gateway.serial) })
    const next = { ...gateway, keys, certificate: der(renewed.json.certificate) }
    expect((await by(next, 'POST', '/api/v1/fabric/renew', { csr: await createCsr(await generateKey(), gateway.serial) })).status).toBe(200)
    const between = await held(endpoint)
    expect([between.listed.includes(serialOf(gateway)), between.listed.includes(serialOf(next))]).toEqual([false, false])
    const row = await real.DB.prepare('SELECT changed_at AS at FROM rules_state WHERE id = 3').first<{ at: number }>()
    expect(row === null || row.at <= version).toBe(true)
    await cut(gateway)
    const after = (await held(endpoint)).listed
    expect([after.includes(serialOf(gateway)), after.includes(serialOf(next))]).toEqual([true, true])
  })
  it('of its members too; authorised anew, it has a certificate that is good', async () => {
    const [root, member] = [await joined(), await joined()]
    await real.DB.prepare('UPDATE gateways SET vouched_by = ? WHERE serial = ?').bind(root.serial, member.serial).run()
    await cut(root)
    const { listed } = await held(endpoint)
    expect([listed.includes(serialOf(root)), listed.includes(serialOf(member))]).toEqual([true, true])
    await updateAuth(member.serial, true)
    const fresh = await real.DB.prepare('SELECT certificate_serial AS serial FROM gateways WHERE serial = ?').bind(member.serial).first<{ serial: string }>()
    expect((await held(endpoint)).listed).not.toContain(fresh?.serial)
  })
  it('of nothing when it was never let in, or is cut off again: no agent asks', async () => {
    const keys = await generateKey()
    const { serial } = dataOf(await init(keys)) as { serial: string }
    const gateway = await joined()
    await cut(gateway)
    const changes = async () => await real.DB.prepare('SELECT revision, changed_at FROM rules_state WHERE id = 3').first()
    const before = await changes()
    expect([(await updateAuth(serial, false)).status, (await cut(gateway)).status, await changes()]).toEqual([200, 200, before])
  })
  it('is told at the cost of one look for each shard, not for each agent', async () => {
    const gateway = await joined()
    const metered = meter(real.DB)
    const path = `/api/v1/admin/gateways/${gateway.serial}/deauthorise`
    expect((await sendTo(envWith({ DB: metered.database }), 'POST', path, { body: { reason: '' }, headers: { authorization: `Bearer ${TOKEN}` } })).status).toBe(200)
    expect(metered.tally.rowsWritten).toBeLessThanOrEqual(12)
    const cost = async (agents: number) => {
      metered.reset()
      const sign = await authoritiesSigner({ env: envWith({ DB: metered.database }), waitUntil: () => undefined })
      for (let index = 0; index < agents; index++) await sign(index.toString(16).padStart(32, '0'))
      return { ...metered.tally }
    }
    await cost(1)
    const [one, many] = [await cost(1), await cost(300)]
    expect(many).toEqual(one)
    expect(many).toMatchObject({ trips: 1, rowsWritten: 0 })
  })
})
