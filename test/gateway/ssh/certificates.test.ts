import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { WireReader } from '../../../domain/access/ssh-wire.ts'
import { createLog } from '../../../node/logging.ts'
import { SSH_CERTIFICATE_PATH } from '../../../protocol/ssh.ts'
import { UID, cleanUp, heldClock, openHttp1, readUntil, record, startGate, until, userOf, type Gate } from '../proxy/gate-under-test.ts'
import { certificateFor, fingerprint, hasOpenSsh, inspect, newKey, post, publishedAuthority, scratch, ssh, startSshd, through } from './sshd-under-test.ts'

afterEach(cleanUp)

const ALICE = 'alice@corp.test'
// From ssh-keygen -t ed25519.
const publicKey = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl'
const policies = (port: number, part = '{}') => `
services: [{name: shell, protocol: tcp, match: [host.test], ports: [22], upstream: "127.0.0.1:${port}", ssh: ${part}}, {name: plain, protocol: tcp, match: [plain.test], ports: [22]}, {name: shut, protocol: tcp, match: [shut.test], ports: [22], ssh: {}}]
policies: [{name: staff, services: [shell, plain], tags: {all: [compliant]}, action: allow}]
`
const signIn = (gate: Gate, user = userOf(ALICE)) => gate.change({ endpoints: new Map([[UID, record(UID, [gate.agent, gate.browser], { user })]]) })

async function gateOf(port: number, part?: string, more: Parameters<typeof startGate>[1] = {}): Promise<Gate> {
  const gate = await startGate(policies(port, part), more)
  signIn(gate)
  return gate
}

describe.skipIf(!hasOpenSsh)('with an SSH certificate of the gateway (needs sshd, ssh and ssh-keygen, as root or with /run/sshd)', () => {
  /** A gate whose CA a real host trusts, and a certificate from it for a new key. */
  async function scene(part: string, { principals = [ALICE], clock }: { principals?: string[]; clock?: ReturnType<typeof heldClock> } = {}) {
    const gate = await gateOf(1, part, clock)
    const host = await startSshd({ principals, trusts: await publishedAuthority(gate) })
    gate.putPolicies(policies(host.port, part))
    const key = await newKey(host.directory, 'user')
    const reply = await certificateFor(gate, { publicKey: key.line })
    const certificate = join(host.directory, 'user-cert.pub')
    writeFileSync(certificate, `${reply.certificate}\n`)
    const way = await through(gate, 'host.test:22')
    return { gate, host, key, reply, enter: (command: string) => ssh({ port: way.port, key: key.file, certificate, command }) }
  }

  it('a user comes in by it alone, and the host\'s log names device, user and decision', async () => {
    const { gate, host, reply, enter } = await scene('{sourceAddresses: [127.0.0.1]}')
    expect(await enter('echo inside')).toMatchObject({ code: 0, stdout: 'inside\n' })
    await until(() => host.log().includes('Accepted publickey'))
    expect(reply).toMatchObject({ principals: [ALICE], hostKeys: [] })
    const [, decision = ''] = new RegExp(`ID uid=${UID} user=${ALICE} decision=(\\S+) \\(serial`).exec(host.log()) ?? []
    expect(await gate.audit.find(decision)).toMatchObject({ allowed: true, uid: UID, service: 'shell', destination: 'host.test:22', protocol: 'tcp', validUntil: reply.validUntil, user: { name: ALICE } })
    expect(await gate.metrics.text()).toContain('sallyport_ssh_certificates_total 1')
  })
  it('a host that names another principal lets nobody in', async () => {
    const { host, enter } = await scene('{}', { principals: ['bob@corp.test'] })
    expect(await enter('echo inside')).toMatchObject({ code: 255, stdout: '' })
    await until(() => host.log().includes('does not contain an authorized principal'))
  })
  it('nobody comes in from an address that is not the gateway\'s', async () => {
    const { host, enter } = await scene('{sourceAddresses: [192.0.2.7, 2001:db8::/32]}')
    expect(await enter('echo inside')).toMatchObject({ code: 255, stdout: '' })
    await until(() => host.log().includes('not from a permitted source address (127.0.0.1)'))
  })
  it('nobody comes in after its end', async () => {
    const { host, enter } = await scene('{certificateSeconds: 60}', { clock: heldClock(Date.now() - 3_600_000) })
    expect(await enter('echo inside')).toMatchObject({ code: 255, stdout: '' })
    await until(() => host.log().includes('Certificate invalid: expired'))
  })
  it('what is asked for is not what runs where the service says what does', async () => {
    const { enter, reply, host } = await scene('{forceCommand: "echo only this", principals: [deploy, root]}')
    expect(await enter('echo inside')).toMatchObject({ code: 0, stdout: 'only this\n' })
    expect(await inspect(host.directory, reply.certificate)).toMatch(/Principals: \n\s+alice@corp\.test\n\s+deploy\n\s+root\n\s+Critical Options: \n\s+force-command echo only this\n\s+Extensions: \n\s+permit-pty\n/)
  })
})

describe.skipIf(!hasOpenSsh)('a certificate, read by ssh-keygen (left out where that is missing)', () => {
  it('is for each kind of key that OpenSSH makes', async () => {
    const gate = await gateOf(1, '{certificateSeconds: 600, sourceAddresses: [10.0.0.0/8, "fd00::1"], extensions: [permit-user-rc, permit-pty, permit-port-forwarding]}')
    const directory = scratch()
    const [authority = ''] = await publishedAuthority(gate)
    const signed = `Signing CA: ED25519 ${await fingerprint(directory, authority)} (using ssh-ed25519)`
    const kinds = ['ed25519', 'ecdsa -b 256', 'ecdsa -b 384', 'ecdsa -b 521', 'rsa -b 2048', 'rsa -b 4096']
    const lines = await Promise.all(kinds.map(async (kind) => (await newKey(directory, kind.replaceAll(' ', ''), kind)).line))
    // Keys in hardware are the same with a name behind; there is none here that could make one.
    const inHardware = (line: string | undefined, type: string) => `${type} ${Buffer.concat([field(type), Buffer.from(line?.split(' ')[1] ?? '', 'base64').subarray(4 + (line?.indexOf(' ') ?? 0)), field('ssh:')]).toString('base64')}`
    for (const line of [...lines, inHardware(lines[0], 'sk-ssh-ed25519@openssh.com'), inHardware(lines[1], 'sk-ecdsa-sha2-nistp256@openssh.com')]) {
      const read = await inspect(directory, (await certificateFor(gate, { publicKey: line })).certificate)
      expect(read).toContain(`Type: ${line.split(' ')[0]?.replace('@openssh.com', '')}-cert-v01@openssh.com user certificate`)
      expect(read).toContain(signed)
      expect(read).toMatch(/source-address 10\.0\.0\.0\/8,fd00::1\n\s+Extensions: \n\s+permit-port-forwarding\n\s+permit-pty\n\s+permit-user-rc\n/)
    }
  })
  it('ends with the word of the provider and with the access, whichever is first, and begins a minute ago', async () => {
    const clock = heldClock(Math.floor(Date.now() / 1_000) * 1_000)
    const gate = await gateOf(1, '{certificateSeconds: 3600}', clock)
    const { line } = await newKey(scratch(), 'user')
    const ends = async () => ((await certificateFor(gate, { publicKey: line })).validUntil - clock.now()) / 1_000
    // What the gateway knows is fresh for 180 s.
    expect(await ends()).toBe(180)
    signIn(gate, userOf(ALICE, { expiresAt: clock.now() + 90_500 }))
    expect(await ends()).toBe(90)
    gate.putPolicies(policies(1, '{certificateSeconds: 60}'))
    expect(await ends()).toBe(60)
    const read = await inspect(scratch(), (await certificateFor(gate, { publicKey: line })).certificate)
    expect(Date.parse(/from (\S+)/.exec(read)?.[1] ?? '')).toBe(clock.now() - 60_000)
  })
})

describe('a certificate', () => {
  it('stands in the log, in one line, by its serial', async () => {
    const lines: string[] = []
    const gate = await gateOf(1, '{principals: [deploy], sourceAddresses: [10.0.0.1]}', { log: createLog({ name: 'gateway', level: 'info', destination: { write: (line) => lines.push(line) } }) })
    const [, base64 = ''] = (await certificateFor(gate, { publicKey })).certificate.split(' ')
    const reader = new WireReader(Buffer.from(base64, 'base64'))
    for (let each = 0; each < 3; each++) reader.string()
    const told = lines.map((line) => JSON.parse(line) as Record<string, unknown>).filter(({ event }) => event === 'ssh_certificate')
    expect(told).toEqual([expect.objectContaining({ serial: String(reader.uint64()), uid: UID, issuer: 'https://idp.test', subject: `id-of-${ALICE}`, principals: [ALICE, 'deploy'], destination: 'host.test:22', sourceAddresses: ['10.0.0.1'] })])
  })
  it('is issued by HTTP/1.1 as by HTTP/2, for addresses however they are written', async () => {
    const gate = await gateOf(1, '{}')
    gate.putPolicies(policies(1).replace('host.test', 'host.test, "fd00::7"'))
    for (const host of ['fd00::7', '[fd00::7]', 'FD00:0::7']) expect((await certificateFor(gate, { host, publicKey })).principals).toEqual([ALICE])
    const socket = await openHttp1(gate, gate.agent)
    const body = JSON.stringify({ host: 'HOST.test', port: 22, publicKey })
    socket.write(`POST ${SSH_CERTIFICATE_PATH} HTTP/1.1\r\nHost: gate.test\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
    expect(await readUntil(socket, 'hostKeys')).toMatch(/^HTTP\/1\.1 200 OK\r\n/)
  })
})

describe('the gateway refuses a certificate', () => {
  const refusal = async (gate: Gate, { credential = gate.agent, host = 'host.test', publicKey, headers, method }: { credential?: Gate['agent'] | null; host?: string; publicKey: string; headers?: Readonly<Record<string, string>>; method?: string }) => {
    const { status, text } = await post(gate, credential, JSON.stringify({ host, port: 22, publicKey }), headers, method)
    return `${status} ${text.startsWith('{') ? (JSON.parse(text) as { reason?: string }).reason ?? 'issued' : 'malformed'}`
  }

  it('unless the device may reach the host now, a service there has to do with SSH, and somebody is vouched for', async () => {
    const gate = await gateOf(1)
    expect(await refusal(gate, { publicKey })).toBe('200 issued')
    for (const [host, expected] of [['plain.test', '404 portal-error'], ['shut.test', '403 no-policy-matched'], ['nowhere.test', '403 service-unknown'], ['host.test:22', '400 malformed'], ['', '400 malformed']] as const) expect([host, await refusal(gate, { host, publicKey })]).toEqual([host, expected])
    signIn(gate, userOf(ALICE, { expiresAt: Date.now() - 1 }))
    expect(await refusal(gate, { publicKey })).toBe('403 user-unverified')
    gate.putTags([])
    expect(await refusal(gate, { publicKey })).toBe('403 tag-missing')
    gate.putTags(['11111111-1111-4111-8111-111111111111'])
    expect(await refusal(gate, { publicKey })).toBe('403 user-unverified')
  })
  it('to whoever is no device, to browsers and to pages', async () => {
    const gate = await gateOf(1)
    expect(await refusal(gate, { publicKey, credential: null })).toBe('403 no-certificate')
    expect(await refusal(gate, { publicKey, credential: gate.browser })).toBe('403 certificate-wrong-purpose')
    const pages: Record<string, string>[] = [{ 'origin': 'https://evil.test' }, { 'sec-fetch-site': 'same-origin' }, { 'sec-fetch-mode': 'cors' }, { 'content-type': 'text/plain' }]
    for (const headers of pages) expect([headers, await refusal(gate, { publicKey, headers })]).toEqual([headers, '404 portal-error'])
    expect(await refusal(gate, { publicKey, method: 'GET' })).toBe('404 portal-error')
  })
  it('for a user without a name that is certainly the user\'s', async () => {
    const gate = await gateOf(1, '{principal: email-name, emailDomains: [corp.test]}')
    const names = { 'alice@corp.test': '200 issued', 'Alice@CORP.test': '200 issued', 'alice@evil.test': '403 user-mismatch', 'root@corp.test': '403 user-mismatch', 'postgres@corp.test': '403 user-mismatch', '1000@corp.test': '403 user-mismatch' }
    for (const [email, expected] of Object.entries(names)) {
      signIn(gate, userOf(email))
      expect([email, await refusal(gate, { publicKey })]).toEqual([email, expected])
    }
  })
  it('for what is no key, or too small a one, or one with an exponent by which anybody signs, and for more than it reads', async () => {
    const gate = await gateOf(1)
    const [type = '', base64 = ''] = publicKey.split(' ')
    const bytes = Buffer.from(base64, 'base64')
    const keys = [`ssh-rsa ${base64}`, `${type} ${base64.slice(0, -4)}`, `${type} ${Buffer.concat([bytes, Buffer.from('x')]).toString('base64')}`, `${type} ${base64} comment`, `ecdsa-sha2-nistp256 ${offCurve()}`, `ssh-rsa ${rsa(1_024)}`, ...[[0], [1], [2], [1, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0, 1]].map((exponent) => `ssh-rsa ${rsa(2_048, exponent)}`)]
    for (const each of keys) expect([each, await refusal(gate, { publicKey: each })]).toEqual([each, '400 malformed'])
    expect((await post(gate, gate.agent, JSON.stringify({ host: 'host.test', port: 22, publicKey, more: 'x'.repeat(5_000) }))).status).toBe(400)
    expect((await post(gate, gate.agent, '{')).status).toBe(400)
  })
  it('to a device that asks too often, until it has paused', async () => {
    const clock = heldClock(Date.now())
    const gate = await gateOf(1, '{}', clock)
    const outcomes = await Promise.all(Array.from({ length: 24 }, () => refusal(gate, { publicKey })))
    expect(outcomes.filter((each) => each === '200 issued')).toHaveLength(20)
    expect(outcomes.filter((each) => each === '503 overloaded')).toHaveLength(4)
    clock.advance(2_000)
    expect(await refusal(gate, { publicKey })).toBe('200 issued')
  })
})

const field = (...parts: (string | Uint8Array)[]) => Buffer.concat(parts.flatMap((part) => {
  const bytes = Buffer.from(part)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(bytes.length)
  return [length, bytes]
}))
const offCurve = () => field('ecdsa-sha2-nistp256', 'nistp256', Buffer.concat([Buffer.from([4]), Buffer.alloc(64, 7)])).toString('base64')
const rsa = (bits: number, exponent = [1, 0, 1]) => field('ssh-rsa', Buffer.from(exponent), Buffer.concat([Buffer.from([0]), Buffer.alloc(bits / 8, 0xff)])).toString('base64')
