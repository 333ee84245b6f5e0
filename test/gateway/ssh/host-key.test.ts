import fc from 'fast-check'
import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, describe, expect, it } from 'vitest'
import { keyLine } from '../../../domain/access/ssh-key.ts'
import { joined } from '../../../domain/access/ssh-wire.ts'
import { strangeHostKey } from '../../../gateway/ssh/host-key.ts'
import { UID, ask, cleanUp, later, listen, openHttp1, openHttp2, record, startGate, until, userOf, type Gate } from '../proxy/gate-under-test.ts'
import { client, hostKey, kexInit, reply, version } from './messages.ts'
import { algorithms, certificateFor, fingerprint, hasOpenSsh, newKey, publishedAuthority, scratch, ssh, startSshd, through, type KeyFile, type Sshd } from './sshd-under-test.ts'

afterEach(cleanUp)

const run = promisify(execFile)
const ALICE = 'alice@corp.test'
const policies = (port: number, hostKeys: readonly string[]) => `
services: [{name: shell, protocol: tcp, match: [host.test], ports: [22], upstream: "127.0.0.1:${port}", ssh: {hostKeys: ${JSON.stringify(hostKeys)}}}]
policies: [{name: staff, services: [shell], tags: {all: [compliant]}, action: allow}]
`
const some = ['SHA256:' + 'A'.repeat(43)]

/** A gate in front of a real host; the client takes any host key. */
async function scene({ hostKey, more = [] }: { hostKey?: KeyFile; more?: string[] } = {}) {
  const gate = await startGate(policies(1, some))
  gate.change({ endpoints: new Map([[UID, record(UID, [gate.agent, gate.browser], { user: userOf(ALICE) })]]) })
  const host = await startSshd({ principals: [ALICE], trusts: await publishedAuthority(gate), more, hostKey })
  const key = await newKey(host.directory, 'user')
  const certificate = join(host.directory, 'user-cert.pub')
  writeFileSync(certificate, `${(await certificateFor(gate, { publicKey: key.line })).certificate}\n`)
  const way = await through(gate, 'host.test:22')
  const list = (...keys: string[]) => gate.putPolicies(policies(host.port, keys))
  const enterFor = (command: string, ...options: string[]) => ssh({ port: way.port, key: key.file, certificate, command, options })
  return { gate, host, way, list, enterFor, async enter(...options: string[]) {
    const outcome = await enterFor('echo inside', ...options)
    // The client is gone before its session is: one that is still open is cut by the next list.
    await until(async () => (await gate.metrics.text()).includes('sallyport_open_sessions 0'))
    return outcome
  } }
}
const inside = { code: 0, stdout: 'inside\n' }
/** Cut, and told why, before the client had begun to prove who it is. */
async function expectCut(denials: readonly string[], host: Sshd, outcome: { code: number; stdout: string; stderr: string }, gate: Gate) {
  expect(outcome).toMatchObject({ code: 255, stdout: '' })
  await until(() => denials.length > 0)
  const told = JSON.parse(denials.at(-1) ?? '') as { decision: string }
  expect(told).toMatchObject({ reason: 'ssh-host-key', code: '022' })
  expect(await gate.audit.find(told.decision)).toMatchObject({ event: 'recheck', allowed: false, reason: 'ssh-host-key', service: 'shell', destination: 'host.test:22' })
  expect(outcome.stderr).not.toContain('Permanently added')
  expect(host.log()).not.toMatch(/Accepted|Failed publickey/)
}

describe.skipIf(!hasOpenSsh)('the host key check (needs sshd, ssh and ssh-keygen, as root or with /run/sshd)', () => {
  it('lets a session on whose host shows a listed key, by the key and by its fingerprint, and hands over to the plain way', async () => {
    const { host, list, enter } = await scene()
    for (const listed of [host.hostKey.line, `${host.hostKey.line} root@host`, await fingerprint(host.directory, host.hostKey.line)]) {
      list(...some, listed)
      expect(await enter()).toMatchObject(inside)
    }
  })
  it('cuts an impostor though the client takes any key, and says so', async () => {
    const { gate, host, way, list, enter } = await scene()
    const other = await newKey(scratch(), 'other')
    list(other.line)
    await expectCut(way.denials, host, await enter(), gate)
  })
  it('cuts open sessions when the key of their host is listed no more, and no others', async () => {
    const { gate, host, way, list, enterFor } = await scene()
    const other = await newKey(scratch(), 'other')
    list(host.hostKey.line)
    const waiting = enterFor('read end')
    await until(() => host.log().includes('Accepted publickey'))
    list(other.line, await fingerprint(host.directory, host.hostKey.line))
    expect(way.denials).toEqual([])
    list(other.line)
    await until(() => way.denials.length > 0)
    expect(JSON.parse(way.denials[0] ?? '')).toMatchObject({ reason: 'ssh-host-key' })
    expect(await waiting).toMatchObject({ code: 255 })
    expect(await gate.metrics.text()).toContain('sallyport_open_sessions 0')
  })
  it('reads each way of exchanging keys that this OpenSSH has', async () => {
    const kinds = await algorithms('kex')
    const { host, list, enter, way, gate } = await scene({ more: [`KexAlgorithms ${kinds.join(',')}`] })
    for (const kind of kinds) {
      list(host.hostKey.line)
      expect([kind, await enter(`KexAlgorithms=${kind}`)]).toEqual([kind, expect.objectContaining(inside)])
    }
    list(...some)
    for (const kind of kinds.filter((each) => /exchange|sntrup/.test(each))) {
      const before = way.denials.length
      expect(await enter(`KexAlgorithms=${kind}`)).toMatchObject({ code: 255, stdout: '' })
      await until(() => way.denials.length > before)
    }
    expect(await gate.metrics.text()).toMatch(/reason="ssh-host-key",event="recheck"\} [1-9]/)
  }, 60_000)
  it('reads each kind of host key', async () => {
    const directory = scratch()
    for (const kind of ['ecdsa -b 256', 'ecdsa -b 521', 'rsa -b 3072']) {
      const { host, list, enter } = await scene({ hostKey: await newKey(directory, kind.replaceAll(' ', ''), kind) })
      list(host.hostKey.line)
      expect([kind, await enter()]).toEqual([kind, expect.objectContaining(inside)])
    }
  })
  it('takes a certificate of a host whose CA is listed, for that host alone', async () => {
    const directory = scratch()
    for (const kind of ['ed25519', 'ecdsa -b 384', 'rsa -b 3072']) {
      const ca = await newKey(directory, `ca-${kind.replaceAll(' ', '')}`, kind)
      const hostKey = await newKey(directory, `host-${kind.replaceAll(' ', '')}`)
      const sign = (...argv: string[]) => run('ssh-keygen', ['-q', '-s', ca.file, '-I', 'host', ...argv, `${hostKey.file}.pub`])
      await sign('-h', '-n', 'host.test', '-V', '+1h')
      const { gate, host, way, list, enter } = await scene({ hostKey, more: [`HostCertificate ${hostKey.file}-cert.pub`] })
      list(`@cert-authority ${ca.line}`)
      expect([kind, await enter()]).toEqual([kind, expect.objectContaining(inside)])
      list(hostKey.line)
      expect([kind, await enter()]).toEqual([kind, expect.objectContaining(inside)])
      list(`@cert-authority ${(await newKey(scratch(), 'other')).line}`)
      expect(await enter()).toMatchObject({ code: 255 })
      expect(way.denials).toHaveLength(1)
      if (kind !== 'ed25519') continue
      list(`@cert-authority ${ca.line}`)
      for (const argv of [['-h', '-n', 'other.test', '-V', '+1h'], ['-h', '-n', 'host.test', '-V', '-2h:-1h'], ['-h', '-V', '+1h']]) {
        await sign(...argv)
        const another = await startSshd({ principals: [ALICE], trusts: [], hostKey, more: [`HostCertificate ${hostKey.file}-cert.pub`] })
        gate.putPolicies(policies(another.port, [`@cert-authority ${ca.line}`]))
        await expectCut(way.denials, another, await enter(), gate)
      }
      expect(host.log()).toContain('Accepted')
    }
  }, 60_000)
})

describe.skipIf(!hasOpenSsh)('a certificate of a host, made by ssh-keygen (left out where that is missing)', () => {
  it('is taken as it is, and refused with any byte of it changed, cut off or added', async () => {
    const directory = scratch()
    const [ca, key] = [await newKey(directory, 'ca'), await newKey(directory, 'host')]
    await run('ssh-keygen', ['-q', '-s', ca.file, '-I', 'host', '-h', '-n', 'other.test,host.test', '-V', '+1h', `${key.file}.pub`])
    const certificate = Buffer.from(readFileSync(`${key.file}-cert.pub`, 'utf8').split(' ')[1] ?? '', 'base64')
    const strange = (shown: Uint8Array) => strangeHostKey(shown, { hostKeys: { keys: [], fingerprints: [], authorities: [ca.line] }, host: 'HOST.test', now: Date.now() })
    expect(strange(certificate)).toBeNull()
    for (let at = 0; at < certificate.length; at++) {
      const changed = Buffer.from(certificate)
      changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8))
      expect([at, strange(changed)]).toEqual([at, expect.any(String)])
      expect([at, strange(certificate.subarray(0, at))]).toEqual([at, expect.any(String)])
    }
    expect(strange(Buffer.concat([certificate, Buffer.from([0])]))).toEqual(expect.any(String))
    fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), (shown) => strange(shown) !== null))
  })
})

describe('behind a service that lists host keys', () => {
  it('what the client says with its request counts; over HTTP/1.1 a cut is a reset, and why is told to who asks', async () => {
    const key = hostKey(1)
    const server = createServer((socket) => socket.on('error', () => socket.destroy()).once('data', () => socket.write(joined([version, kexInit('curve25519-sha256'), reply(key)]))))
    later(() => server.close())
    const port = await listen(server)
    const gate = await startGate(policies(port, [keyLine('ssh-ed25519', key)]))
    const open = async () => {
      const socket = await openHttp1(gate, gate.agent)
      const whole: Uint8Array[] = []
      socket.on('data', (chunk: Uint8Array) => whole.push(chunk))
      socket.write(joined([Buffer.from('CONNECT host.test:22 HTTP/1.1\r\nHost: host.test:22\r\n\r\n'), client()]))
      return { socket, text: () => Buffer.concat(whole).toString('latin1') }
    }
    const good = await open()
    await until(() => good.text().endsWith(Buffer.from(reply(key)).toString('latin1')))
    gate.putPolicies(policies(port, some))
    await until(() => good.socket.destroyed)
    const bad = await open()
    await until(() => bad.socket.destroyed)
    expect(bad.text()).not.toContain(Buffer.from(key).toString('latin1'))
    const session = /sallyport-session: (\S+)/.exec(bad.text())?.[1] ?? ''
    const told = await ask(openHttp2(gate, gate.agent), { ':method': 'GET', ':path': `/.well-known/sallyport/cut?session=${session}&destination=host.test:22`, ':authority': 'gate.test', ':scheme': 'https' })
    expect({ status: told.status, ...JSON.parse(await told.body()) as object }).toMatchObject({ status: 502, reason: 'ssh-host-key', code: '022' })
  })

  it('what does not speak SSH is cut, and nothing of it comes through', async () => {
    for (const said of ['HTTP/1.1 200 OK\r\n\r\nSSH-1.5-old\r\n', 'x'.repeat(300), 'SSH-2.0-x\rSSH-2.0-y\r\n', 'line\n'.repeat(40), 'SSH-2.0-x\r\n' + '\xff'.repeat(64), 'ssh-2.0-x\r\n']) {
      const server = createServer((socket) => socket.on('error', () => socket.destroy()).write(Buffer.from(said, 'latin1')))
      later(() => server.close())
      const gate = await startGate(policies(await listen(server), some))
      const way = await through(gate, 'host.test:22')
      const socket = connect(way.port, '127.0.0.1')
      let got = ''
      socket.on('data', (chunk: Uint8Array) => {
        got += Buffer.from(chunk).toString('latin1')
      })
      socket.on('error', () => socket.destroy())
      later(() => socket.destroy())
      socket.write('SSH-2.0-Client\r\n')
      await until(() => way.denials.length > 0)
      expect(JSON.parse(way.denials[0] ?? '')).toMatchObject({ reason: 'ssh-host-key' })
      expect(['', 'SSH-2.0-x\r\n']).toContain(got)
      await cleanUp()
    }
  })
})
