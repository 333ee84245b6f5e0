import { once } from 'node:events'
import { connect } from 'node:tls'
import { afterEach, describe, expect, it } from 'vitest'
import { createAuthority, type Authority } from '../../../identity/authority.ts'
import { toPem } from '../../../identity/encoding.ts'
import { exportPrivateKey, generateKey } from '../../../identity/keys.ts'
import * as x509 from '../../../identity/x509.ts'
import { gatewayTlsName, purposeOids } from '../../../protocol/certificates.ts'
import { GATEWAY, OTHER, UID, cleanUp, connectTo, issue, later, openHttp2, readUntil, record, refused, startEcho, startGate, type Gate } from './gate-under-test.ts'

afterEach(cleanUp)

const DAY = 86_400_000
const policies = (port: number) => `services: [{name: ledger, protocol: tcp, match: [127.0.0.1], ports: [${port}], addresses: [127.0.0.1]}]\npolicies: [{name: all, services: [ledger], tags: {all: [compliant]}, action: allow}]`

interface Odd {
  readonly subject?: string | x509.JsonName
  readonly usages?: readonly string[] | null
  readonly isAuthority?: boolean
  readonly from?: number
  readonly to?: number
  readonly names?: readonly string[]
  readonly algorithm?: { readonly name: string; readonly namedCurve?: string; readonly hash?: string; readonly publicExponent?: Uint8Array; readonly modulusLength?: number }
  readonly serial?: string
  readonly padding?: number
}
const ordinary = [x509.ExtendedKeyUsage.clientAuth, purposeOids.agent]
const serialOf = (certificate: x509.X509Certificate) => certificate.serialNumber.toUpperCase().padStart(40, '0')

/** A certificate of our CA as it would never issue one. The record of the device lists its serial: nothing but the certificate itself is wrong. */
async function odd(gate: Gate, { subject = [{ CN: [UID] }], usages = ordinary, isAuthority = false, from = Date.now() - DAY, to = Date.now() + DAY, names = [], algorithm = { name: 'ECDSA', namedCurve: 'P-256' }, serial = '5'.repeat(40), padding = 0 }: Odd) {
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']) as CryptoKeyPair
  const authority = new x509.X509Certificate(gate.authority.certificatePem)
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serial, subject, issuer: authority.subjectName, notBefore: new Date(from), notAfter: new Date(to), publicKey: keys.publicKey, signingKey: gate.authority.privateKey, signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
    extensions: [
      new x509.BasicConstraintsExtension(isAuthority, undefined, true), ...(usages === null ? [] : [new x509.ExtendedKeyUsageExtension([...usages])]),
      ...(names.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(names.map((value) => ({ type: 'dns' as const, value })))]),
      ...(padding === 0 ? [] : [new x509.Extension('1.3.6.1.4.1.99999.1', false, new Uint8Array(padding))]),
    ],
  })
  gate.change({ endpoints: new Map([[UID, record(UID, [{ ...gate.agent, serial: serialOf(certificate), notAfter: Date.now() + 10 * DAY }])]]) })
  return { ...gate.agent, cert: certificate.toString('pem'), key: toPem('PRIVATE KEY', new Uint8Array(await crypto.subtle.exportKey('pkcs8', keys.privateKey))) }
}

async function gateBeforeEcho() {
  const echo = await startEcho()
  later(echo.close)
  const gate = await startGate(policies(echo.port))
  return { gate, to: `127.0.0.1:${echo.port}` }
}
const rsa = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256', publicExponent: new Uint8Array([1, 0, 1]), modulusLength: 2048 }

describe('a certificate of our CA that is not as it should be opens nothing', () => {
  const cases: Record<string, [reason: string, Odd]> = {
    'not yet valid': ['certificate-invalid', { from: Date.now() + DAY }],
    'expired': ['certificate-expired', { from: Date.now() - 3 * DAY, to: Date.now() - DAY }],
    'no purpose of ours': ['certificate-wrong-purpose', { usages: [x509.ExtendedKeyUsage.clientAuth] }],
    'two purposes of ours': ['certificate-wrong-purpose', { usages: [...ordinary, purposeOids.gateway] }],
    'no extended key usage': ['certificate-wrong-purpose', { usages: null }],
    'our purpose, not for clients': ['certificate-wrong-purpose', { usages: [x509.ExtendedKeyUsage.serverAuth, purposeOids.agent] }],
    'a CA': ['certificate-invalid', { isAuthority: true }],
    'no common name': ['certificate-invalid', { subject: [{ O: [UID] }] }],
    'two common names': ['certificate-invalid', { subject: [{ CN: [UID, OTHER] }] }],
    'two common names in two sets': ['certificate-invalid', { subject: [{ CN: [OTHER] }, { CN: [UID] }] }],
    'a UID in capitals': ['certificate-invalid', { subject: [{ CN: [UID.toUpperCase()] }] }],
    'a UID with a space': ['certificate-invalid', { subject: [{ CN: [`${UID} `] }] }],
    'a UID with a NUL': ['certificate-invalid', { subject: [{ CN: [`${UID}\0`] }] }],
    'a UID with a newline': ['certificate-invalid', { subject: [{ CN: [`${UID}\n`] }] }],
    'a UID in other digits': ['certificate-invalid', { subject: [{ CN: [UID.replace('1', '１')] }] }],
    'a UID in an alternative name alone': ['certificate-invalid', { subject: [{ CN: ['laptop'] }], names: [UID] }],
    'SQL for a UID': ['certificate-invalid', { subject: [{ CN: ["' OR 1=1 --"] }] }],
    'a giant': ['certificate-invalid', { padding: 5_000 }],
  }
  for (const [name, [reason, how]] of Object.entries(cases)) {
    it(name, async () => {
      const { gate, to } = await gateBeforeEcho()
      const answer = await refused(openHttp2(gate, await odd(gate, how)), to)
      expect(answer).toMatchObject({ status: 403, reason })
      expect(await gate.audit.find(answer.decision)).toMatchObject({ allowed: false })
    })
  }
  it('and one in another encoding is who it says, no more', async () => {
    const { gate, to } = await gateBeforeEcho()
    for (const subject of [[{ CN: [{ bmpString: UID }] }], [{ CN: [{ utf8String: UID }] }], [{ CN: [{ printableString: UID }] }]] as unknown as x509.JsonName[]) {
      expect((await connectTo(openHttp2(gate, await odd(gate, { subject })), to)).status).toBe(200)
    }
    expect(await refused(openHttp2(gate, await odd(gate, { subject: [{ CN: [{ bmpString: OTHER }] }] as unknown as x509.JsonName })), to)).toMatchObject({ reason: 'endpoint-unknown', uid: OTHER })
  })
  it('and one of another kind of key either speaks for the device or opens nothing', async () => {
    const { gate, to } = await gateBeforeEcho()
    const answer = await refused(openHttp2(gate, await odd(gate, { algorithm: rsa, usages: [x509.ExtendedKeyUsage.clientAuth] })), to)
    expect(answer.reason).toBe('certificate-wrong-purpose')
  })
})

describe('a certificate of somebody else opens nothing', () => {
  it('with the right UID, from a foreign CA, also one that bears our CA\'s name', async () => {
    const { gate, to } = await gateBeforeEcho()
    for (const name of ['Other CA', 'Test CA']) {
      const foreign = await createAuthority({ name, now: Date.now() })
      expect(await refused(openHttp2(gate, await issue(foreign, UID, 'agent')), to)).toMatchObject({ reason: 'certificate-invalid', uid: null })
    }
  })
  it('signed by a device\'s own certificate', async () => {
    const { gate, to } = await gateBeforeEcho()
    const keys = await generateKey(true)
    const device: Authority = { ...gate.authority, certificatePem: gate.agent.cert, privateKey: keys.privateKey }
    const leaf = await issue({ ...device, notAfter: Date.now() + DAY }, UID, 'agent')
    const chained = { ...leaf, cert: `${leaf.cert}\n${gate.agent.cert}` }
    expect(await refused(openHttp2(gate, chained), to)).toMatchObject({ reason: 'certificate-invalid', uid: null })
  })
  it('signed by itself, with the UID', async () => {
    const { gate, to } = await gateBeforeEcho()
    const keys = await generateKey(true)
    const self = await x509.X509CertificateGenerator.createSelfSigned({ serialNumber: gate.agent.serial, name: [{ CN: [UID] }], keys, signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' }, notBefore: new Date(Date.now() - DAY), notAfter: new Date(Date.now() + DAY) })
    expect(await refused(openHttp2(gate, { ...gate.agent, cert: self.toString('pem'), key: await exportPrivateKey(keys.privateKey) }), to)).toMatchObject({ reason: 'certificate-invalid' })
  })
})

describe('a certificate that was right', () => {
  it('opens nothing once it is revoked or replaced, on connections that are open and over a resumed session too', async () => {
    const { gate, to } = await gateBeforeEcho()
    let ticket: Buffer | undefined
    const greet = async () => {
      const socket = connect({ host: '127.0.0.1', port: gate.proxy.port, ca: gate.authority.certificatePem, servername: gatewayTlsName(GATEWAY), cert: gate.agent.cert, key: gate.agent.key, ALPNProtocols: ['http/1.1'], session: ticket })
      later(() => socket.destroy())
      socket.on('error', () => socket.destroy())
      socket.on('session', (made: Buffer) => {
        ticket = made
      })
      await once(socket, 'secureConnect')
      const read = readUntil(socket, '\r\n\r\n')
      socket.write(`CONNECT ${to} HTTP/1.1\r\nHost: x\r\n\r\n`)
      return { resumed: socket.isSessionReused(), head: await read }
    }
    expect((await greet()).head).toMatch(/^HTTP\/1.1 200 /)
    const open = openHttp2(gate, gate.agent)
    const next = await issue(gate.authority, UID, 'agent')
    gate.change({ endpoints: new Map([[UID, record(UID, [next])]]) })
    expect(await refused(open, to)).toMatchObject({ reason: 'certificate-revoked', code: '063' })
    const resumed = await greet()
    expect(resumed.resumed).toBe(true)
    expect(resumed.head).toMatch(/^HTTP\/1.1 403 [\s\S]*certificate-revoked/)
    expect((await connectTo(openHttp2(gate, next), to)).status).toBe(200)
  })
  it('does not speak for another device that has the same serial in its record', async () => {
    const { gate, to } = await gateBeforeEcho()
    gate.change({ endpoints: new Map([[UID, record(UID, [])], [OTHER, record(OTHER, [gate.agent])]]) })
    expect(await refused(openHttp2(gate, gate.agent), to)).toMatchObject({ reason: 'certificate-revoked', uid: UID })
  })
})
