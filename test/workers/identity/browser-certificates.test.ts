// Certificates of browsers in the records: the agent is told which are good, and a key whose certificate was revoked is given no other.
import { describe, expect, it } from 'vitest'
import { readCertificate } from '../../../identity/certificate.ts'
import { generateKey } from '../../../identity/keys.ts'
import { createCsr } from '../../../identity/request.ts'
import type { ToAgent } from '../../../protocol/channel.ts'
import { admin, der, enrolled, linux, report, signed, type Endpoint } from '../ems.ts'
import { answerTo, CHANNEL, open } from '../gateway.ts'

const ask = async (endpoint: Endpoint, keys: CryptoKeyPair) => await signed(endpoint, 'POST', '/api/v1/endpoint/browser-certificate', { csr: await createCsr(keys, endpoint.uid), user: 'ada' })
const serialOf = ({ json }: Awaited<ReturnType<typeof ask>>) => readCertificate(der(json.certificate))?.serial ?? ''
const is = (type: ToAgent['type']) => (message: ToAgent) => message.type === type

describe('a browser\'s certificate', () => {
  it('that is revoked is not among the good ones of the next reply, the agent is asked to report, and its key gets no other', async () => {
    const [endpoint, [first, second]] = [await enrolled(), [await generateKey(), await generateKey()]]
    const [one, two] = [serialOf(await ask(endpoint, first)), serialOf(await ask(endpoint, second))]
    expect((await report(endpoint, 1, { os: linux() })).json.browserCertificates).toEqual([one, two])
    const channel = await open<ToAgent>(endpoint, CHANNEL)
    const challenge = await channel.next(is('challenge'))
    channel.socket.send(JSON.stringify({ type: 'answer', signature: await answerTo(endpoint, challenge.type === 'challenge' ? challenge.challenge : '', 'agent') }))
    await channel.next(is('welcome'))
    expect((await admin('POST', `/endpoints/${endpoint.uid}/certificates/${one}/revoke`, {})).status).toBe(200)
    await channel.next(is('report-now'))
    // One that brings nothing is told the same.
    for (const sections of [{}, { os: linux('13.0') }]) expect((await report(endpoint, 2, sections)).json.browserCertificates).toEqual([two])
    expect([(await ask(endpoint, first)).code, serialOf(await ask(endpoint, second)), (await ask(endpoint, await generateKey())).status]).toEqual(['conflict', two, 200])
  })
})
