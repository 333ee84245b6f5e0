// Enrolment over real HTTPS against the real Worker: the EMS proves itself by its pin, a device enrols, reports, renews, and data outlives a restart.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import canonicalize from 'canonicalize'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readCertificate } from '../../identity/certificate.ts'
import { copyBytes, fromPem, utf8 } from '../../identity/encoding.ts'
import { generateKey, sha256Hex } from '../../identity/keys.ts'
import { createCsr } from '../../identity/request.ts'
import { createControlClient, type Identity } from '../../node/control-client.ts'
import { introduceEms } from '../../node/introduce.ts'
import { silentLog } from '../../node/logging.ts'
import { INVITATION_PREFIX, readInvitation } from '../../protocol/invitation.ts'
import * as administration from '../../protocol/operations/admin.ts'
import { ownTags, report } from '../../protocol/operations/endpoint.ts'
import { enrol } from '../../protocol/operations/public.ts'
import { startEms, type LocalEms } from '../../start/ems.ts'

const log = silentLog()

describe('a device and its EMS', () => {
  let directory: string
  let ems: LocalEms
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'sallyport-flow-'))
    ems = await startEms({ directory })
  })
  afterAll(async () => {
    await ems.close()
    await rm(directory, { recursive: true, force: true, maxRetries: 10 })
  })
  const administrator = () => createControlClient({ ems: ems.address, token: ems.adminToken, tlsCa: [ems.tlsCaPem], now: Date.now, log })
  const invitation = async (client: ReturnType<typeof administrator>) => {
    const read = readInvitation(INVITATION_PREFIX, (await client.call(administration.createInvitation, { body: { name: 'laptop' } })).text)
    if (read === null) throw new Error('the invitation can not be read')
    return read
  }

  it('that is not the one of the invitation is told nothing', async () => {
    const client = administrator()
    const { ems: address } = await invitation(client)
    await expect(introduceEms(client, { ems: address, pin: '0'.repeat(64) })).rejects.toMatchObject({ code: 'not_found' })
    await expect(introduceEms(client, { ems: 'https://elsewhere.example', pin: (await invitation(client)).pin })).rejects.toMatchObject({ code: 'bad_certificate' })
    await client.close()
  })

  it('whose TLS certificate is not trusted is not spoken to', async () => {
    const client = createControlClient({ ems: ems.address, now: Date.now, log })
    await expect(client.call(administration.listTags, { query: {} })).rejects.toMatchObject({ code: 'busy' })
    await client.close()
  })

  it('enrol, report, learn the clock, and go on after a restart with the same data', async () => {
    const administering = administrator()
    const { pin, code } = await invitation(administering)
    let identity: Identity | null = null
    let wrongByDays = 0
    const device = createControlClient({ ems: ems.address, identity: () => identity, tlsCa: [ems.tlsCaPem], now: () => Date.now() + wrongByDays, log })
    const { certificates } = await introduceEms(device, { ems: ems.address, pin })
    expect(certificates).toHaveLength(1)
    const keys = await generateKey()
    const enrolled = await device.call(enrol, { body: { invitation: code, csr: await createCsr(keys, 'laptop'), hostName: 'laptop', os: 'linux', agentVersion: '0.1.0', protocol: '7.0.0' } })
    expect(readCertificate(enrolled.certificate)?.commonName).toBe(enrolled.uid)
    identity = { privateKey: keys.privateKey, certificateDer: copyBytes(fromPem('CERTIFICATE', enrolled.certificate) ?? new Uint8Array()) }

    await administering.call(administration.createRuleSet, { body: { name: 'modern', tag: 'modern', rules: { linux: { conditions: [{ type: 'os-version', comparator: '>=', version: '12' }] } } } })
    wrongByDays = 4 * 86_400_000
    const os = { type: 'linux' as const, name: 'Debian', version: '12.8', kernel: '6.1', architecture: 'x64' }
    const hashes = { os: await sha256Hex(utf8(canonicalize(os) ?? '')) }
    expect((await device.call(report, { body: { sequence: 1, sections: { os }, hashes } })).wanted).toEqual([])
    expect(Math.abs(device.offset() + wrongByDays)).toBeLessThan(10_000)
    expect((await device.call(ownTags, {})).tags.map(({ tag, state }) => [tag, state])).toEqual([['modern', 'present']])

    await ems.close()
    await administering.close()
    ems = await startEms({ directory })
    expect((await device.call(report, { body: { sequence: 2, sections: {}, hashes } })).wanted).toEqual([])
    await device.close()
    const again = administrator()
    expect((await again.call(administration.listEndpoints, { query: {} })).items.map(({ uid }) => uid)).toEqual([enrolled.uid])
    await again.close()
  })
})
