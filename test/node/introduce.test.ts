// Before an EMS is told anything it must prove that it holds the pinned CA, for this challenge and under the address that was asked.
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { createAuthority, issueCertificate, type Authority } from '../../identity/authority.ts'
import { signDocument, type Signer } from '../../identity/document.ts'
import { exportPublicKey, generateKey } from '../../identity/keys.ts'
import { createControlClient } from '../../node/control-client.ts'
import { introduceEms } from '../../node/introduce.ts'
import { silentLog } from '../../node/logging.ts'
import { introduction } from '../../protocol/documents.ts'
import type { Purpose } from '../../protocol/certificates.ts'
import { httpsServer, type Seen } from './https-server.ts'
import type { z } from 'zod'

type Said = z.input<typeof introduction>
interface Lie { readonly body?: Partial<Said>; readonly signer?: Signer; readonly to?: string; readonly raw?: string }

describe('an introduction', () => {
  let ca: Authority
  let foreign: Authority
  const closing: (() => Promise<void>)[] = []
  const signerOf = async (authority: Authority, purpose: Purpose = 'signing'): Promise<Signer> => {
    const keys = await generateKey()
    const { der } = await issueCertificate({ authority, publicKeySpki: await exportPublicKey(keys.publicKey), purpose, commonName: 'signer', now: Date.now() })
    return { privateKey: keys.privateKey, certificateDer: der }
  }
  beforeAll(async () => {
    ca = await createAuthority({ name: 'EMS', now: Date.now() })
    foreign = await createAuthority({ name: 'EMS', now: Date.now() })
  })
  afterEach(async () => {
    for (const close of closing.splice(0)) await close()
  })

  /** Asks a server that lies in one way. */
  const meet = async (lie: Lie = {}) => {
    const honest = await signerOf(ca)
    const server = await httpsServer(async (request: Seen) => {
      const { challenge } = JSON.parse(new TextDecoder().decode(request.body)) as { challenge: string }
      const body: Said = { challenge, authority: new URL(request.url).host, certificates: [ca.certificatePem], emsSerial: 'EMS0000000000001', emsTime: Date.now(), ...lie.body }
      return { body: { document: lie.raw ?? await signDocument({ kind: 'introduction', to: lie.to ?? '*', version: Date.now(), body }, lie.signer ?? honest) } }
    })
    const client = createControlClient({ ems: server.origin, tlsCa: [server.tlsCaPem], now: Date.now, log: silentLog() })
    closing.push(client.close, server.close)
    return await introduceEms(client, { ems: server.origin, pin: ca.pin })
  }

  it('tells every CA that the EMS trusts, the pinned one among them', async () => {
    expect((await meet({ body: { certificates: [foreign.certificatePem, ca.certificatePem] } })).certificates).toEqual([foreign.certificatePem, ca.certificatePem])
  })

  it.each<[string, string, () => Lie | Promise<Lie>]>([
    ['does not offer the pinned CA', 'does not have the pinned CA', () => ({ body: { certificates: [foreign.certificatePem] } })],
    ['offers the pinned CA, but signs under another', 'foreign', async () => ({ signer: await signerOf(foreign), body: { certificates: [ca.certificatePem, foreign.certificatePem] } })],
    ['signs with the certificate of an agent', 'foreign', async () => ({ signer: await signerOf(ca, 'agent') })],
    ['answers another challenge', 'another challenge', () => ({ body: { challenge: '0'.repeat(64) } })],
    ['passes on the proof of the real EMS', 'another address', () => ({ body: { authority: 'ems.example' } })],
    ['addresses its proof to somebody', 'misaddressed', () => ({ to: '0123456789abcdef0123456789abcdef' })],
  ])('is refused from a server that %s', async (_, why, lie) => {
    await expect(meet(await lie())).rejects.toMatchObject({ code: 'bad_certificate', message: expect.stringContaining(why) as string })
  })

  it('is refused when it is no document', async () => {
    await expect(meet({ raw: 'a.b.c' })).rejects.toMatchObject({ name: 'Fault' })
  })
})
