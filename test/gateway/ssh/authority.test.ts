import { execFile } from 'node:child_process'
import { chownSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterEach, describe, expect, it } from 'vitest'
import { WireReader } from '../../../domain/access/ssh-wire.ts'
import { readCommand } from '../../../gateway/config.ts'
import { UsageError } from '../../../node/config.ts'
import { openSshAuthority, rotateSshAuthority } from '../../../gateway/ssh/authority.ts'
import { startClusterGate } from '../cluster/cluster-under-test.ts'
import { ask, cleanUp, heldClock, openHttp2, startGate, type Gate } from '../proxy/gate-under-test.ts'
import { isRoot, publishedAuthority, scratch } from './sshd-under-test.ts'

afterEach(cleanUp)

const DAY = 86_400_000
const run = promisify(execFile)
const main = fileURLToPath(new URL('../../../gateway/main.ts', import.meta.url))
const lineOf = (blob: Uint8Array) => `ssh-ed25519 ${Buffer.from(blob).toString('base64')} sallyport-ssh-ca`
const rotate = { afterMs: 7 * DAY, compromised: false }

describe('the SSH CA', () => {
  it('is one key, whichever process asks first, in a file of its owner\'s', async () => {
    const directory = scratch()
    const signers = await Promise.all(Array.from({ length: 20 }, () => openSshAuthority({ directory, now: Date.now }).signer()))
    expect(new Set(signers.map(({ blob }) => lineOf(blob))).size).toBe(1)
    expect(readdirSync(directory)).toEqual(['ssh-ca.json'])
    expect(statSync(join(directory, 'ssh-ca.json')).mode & 0o777).toBe(0o600)
    const [signer] = signers
    const reader = new WireReader(signer?.sign(Buffer.from('x')) ?? new Uint8Array())
    expect([reader.text(), reader.string().length, reader.isDone]).toEqual(['ssh-ed25519', 64, true])
  })
  it('is told to hosts before it signs and, when it is replaced, until what it signed has ended', async () => {
    const { now, advance } = heldClock(Date.now())
    const directory = scratch()
    const authority = openSshAuthority({ directory, now })
    const first = lineOf((await authority.signer()).blob)
    await rotateSshAuthority(directory, { now: now(), ...rotate })
    await expect(rotateSshAuthority(directory, { now: now(), ...rotate })).rejects.toThrow('A key waits already')
    advance(2_000)
    const states = async () => (await authority.published()).map(({ line, state }) => `${line === first ? 'first' : 'second'} ${state}`)
    expect(await states()).toEqual(['first signs', 'second next'])
    advance(7 * DAY)
    expect(await states()).toEqual(['first retiring', 'second signs'])
    expect(lineOf((await authority.signer()).blob)).not.toBe(first)
    advance(DAY)
    expect(await states()).toEqual(['second signs'])
    expect(await rotateSshAuthority(directory, { now: now(), afterMs: 0, compromised: true })).toMatchObject([{ state: 'signs' }])
    advance(2_000)
    expect(await states()).toEqual(['second signs'])
  })
  it.skipIf(!isRoot)('belongs to whom the directory does, though root makes it (left out where tests are not root)', async () => {
    const directory = scratch()
    chownSync(directory, 12_345, 12_345)
    await openSshAuthority({ directory, now: Date.now }).signer()
    await rotateSshAuthority(directory, { now: Date.now(), ...rotate })
    expect(statSync(join(directory, 'ssh-ca.json'))).toMatchObject({ uid: 12_345, gid: 12_345 })
  })
  it('is not begun anew when its file is damaged', async () => {
    const directory = scratch()
    writeFileSync(join(directory, 'ssh-ca.json'), '{')
    await expect(openSshAuthority({ directory, now: Date.now }).signer()).rejects.toThrow('is damaged')
  })
  it('is published while a service has to do with SSH, and not made for strangers who ask', async () => {
    const plain = 'services: [{name: s, protocol: tcp, match: [h.test], ports: [22]}]\npolicies: []'
    const gate = await startGate(plain)
    const answer = await ask(openHttp2(gate, null), { ':method': 'GET', ':path': '/.well-known/sallyport/ssh-ca.pub', ':authority': 'gate.test', ':scheme': 'https' })
    expect(answer.status).toBe(404)
    expect(readdirSync(gate.directory)).not.toContain('ssh-ca.json')
    gate.putPolicies(plain.replace('[22]}', '[22], ssh: {}}'))
    expect(await publishedAuthority(gate)).toEqual([lineOf((await openSshAuthority({ directory: gate.directory, now: Date.now }).signer()).blob)])
  })
})

describe('the SSH CA of a gate of several processes', () => {
  it('is one key, whichever of them is asked', async () => {
    const gate = await startClusterGate('services: [{name: s, protocol: tcp, match: [h.test], ports: [22], ssh: {}}]\npolicies: []\n', 2)
    // What opens connections needs the port and the CA alone.
    const facade = { proxy: gate.proxy, authority: gate.authority } as unknown as Gate
    const told = await Promise.all(Array.from({ length: 12 }, () => publishedAuthority(facade)))
    expect(new Set(told.flat()).size).toBe(1)
    expect(told.every((each) => each.length === 1)).toBe(true)
  })
})

describe('gateway ssh-ca', () => {
  const gateway = (...argv: string[]) => run(process.execPath, [main, 'ssh-ca', ...argv], { env: { ...process.env, SALLYPORT_STATE: undefined } })
  it('prints what hosts are to trust, and rotates', async () => {
    const directory = scratch()
    const { stdout: first } = await gateway('--state', directory)
    expect(first).toMatch(/^ssh-ed25519 [A-Za-z0-9+/]+=* sallyport-ssh-ca\n$/)
    const { stdout: both } = await gateway('rotate', '--state', directory, '--signs-after', '3600', '--json')
    expect((JSON.parse(both) as { keys: object[] }).keys).toMatchObject([{ line: first.trim(), state: 'signs' }, { state: 'next' }])
    const { stdout: fresh } = await gateway('rotate', '--compromised', '--state', directory)
    expect(both).not.toContain(fresh.trim())
    await expect(gateway('--state', join(directory, 'mistyped'))).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining('There is no directory') as string })
  })
  it('says what is wrong with how it is used', () => {
    for (const argv of [['show', '--state', '/x'], ['--state', '/x', '--compromised'], ['rotate', '--state', '/x', '--signs-after', 'soon'], ['rotate', '--state', '/x', '--signs-after', '5', '--compromised']]) expect(() => readCommand(['ssh-ca', ...argv]), argv.join(' ')).toThrow(UsageError)
    expect(() => readCommand(['check', '/x', '--compromised'])).toThrow('stand with ssh-ca rotate')
  })
})
