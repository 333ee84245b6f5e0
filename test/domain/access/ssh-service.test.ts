import { describe, expect, it } from 'vitest'
import { lintPolicies } from '../../../domain/access/lint-policies.ts'
import { readPolicies } from '../../../domain/access/read-policies.ts'
import { keyLine, readKeyLine } from '../../../domain/access/ssh-key.ts'
import { principalsOf } from '../../../domain/access/ssh-principals.ts'
import { joined, string, strings, uint32, uint64, WireReader } from '../../../domain/access/ssh-wire.ts'
import type { VerifiedUser } from '../../../protocol/identity.ts'
import { compile } from './access-under-test.ts'

const file = (ssh: string) => `services: [{name: s, protocol: tcp, match: [h.test], ports: [22], ssh: ${ssh}}]\npolicies: [{name: p, services: [s], tags: {all: [a]}, action: allow}]`
const sshOf = (ssh: string) => compile(file(ssh)).services[0]?.ssh ?? null
const mistakes = (ssh: string) => {
  const read = readPolicies(file(ssh))
  return read.ok ? [] : read.errors.map(({ path, detail }) => `${path.replace('services.0.ssh', '')} ${detail}`)
}
const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl'
const FINGERPRINT = `SHA256:${'A'.repeat(43)}`

describe('the ssh part of a service', () => {
  it('is as strict as it can be where nothing is said', () => {
    expect(sshOf('{}')).toEqual({ principal: 'email', emailDomains: new Set(), issuers: new Set(), principals: [], certificateMs: 300_000, sourceAddresses: [], hostKeys: null, extensions: ['permit-pty'], forceCommand: null })
    expect(compile(file('{}').replace(', ssh: {}', '')).services[0]?.ssh).toBeNull()
  })
  it('takes host keys in each of their forms, addresses as sshd compares them', () => {
    expect(sshOf(`{hostKeys: ["${KEY} root@host", "${FINGERPRINT}", "@cert-authority ${KEY} our ca"], sourceAddresses: ["::ffff:10.0.0.1", "fd00::/8"], extensions: [permit-pty, no-touch-required]}`)).toMatchObject({
      hostKeys: { keys: [KEY], fingerprints: [FINGERPRINT], authorities: [KEY] }, sourceAddresses: ['10.0.0.1', 'fd00::/8'], extensions: ['no-touch-required', 'permit-pty'],
    })
  })
  it('says what is wrong with it', () => {
    for (const [ssh, mistake] of [
      ['{principal: email-name}', '.emailDomains must name the domains: else alice@elsewhere.example would be alice'], ['{principal: subject}', '.issuers must name the provider: a subject is one user only within it'],
      ['{principal: subject, issuers: ["https://idp.test"], emailDomains: [corp.test]}', '.emailDomains stands with e-mails only'], ['{sourceAddresses: [10.0.0.1/8]}', '.sourceAddresses.0 must be an address, or a range without bits beyond its prefix'],
      ['{sourceAddresses: ["fe80::1%eth0"]}', '.sourceAddresses.0'], ['{sourceAddresses: [host.test]}', '.sourceAddresses.0'], ['{hostKeys: [MD5:aa]}', '.hostKeys.0 must be a public key like'], ['{hostKeys: [host.test ssh-ed25519 AAAA]}', '.hostKeys.0 must be a public key like'], [`{hostKeys: ["${KEY.replace('ssh-ed25519', 'ssh-rsa')}"]}`, '.hostKeys.0 must be a public key like'],
      ['{principals: [-oProxyCommand=x]}', '.principals.0 must be a login name'], ['{principals: ["a,root"]}', '.principals.0 must be a login name'], ['{certificateSeconds: 86401}', '.certificateSeconds'], ['{extensions: [permit-everything]}', '.extensions.0'],
      ['{forceCommand: "a\\nb"}', '.forceCommand'], ['{hostKeys: []}', '.hostKeys'],
    ] as const) expect([ssh, mistakes(ssh)]).toEqual([ssh, [expect.stringContaining(mistake)]])
    expect(readPolicies(file('{}').replace('protocol: tcp', 'protocol: udp')).ok).toBe(false)
  })
  it('is linted for what it could be held to', () => {
    const lint = (ssh: string) => lintPolicies(compile(file(ssh)), { tagsByName: null, now: 0 })
    expect(lint('{}')).toEqual([expect.stringContaining('lists no ssh.hostKeys'), expect.stringContaining('names no ssh.sourceAddresses')])
    expect(lint(`{hostKeys: ["${KEY}"], sourceAddresses: [10.0.0.1]}`)).toEqual([])
  })
})

describe('the login names of a user', () => {
  const names = (ssh: string, user: Partial<VerifiedUser>) => {
    const part = sshOf(ssh)
    return part === null ? null : principalsOf(part, { issuer: 'https://idp.test', subject: 'x', authenticatedAt: 0, expiresAt: null, ...user })
  }
  const byName = '{principal: email-name, emailDomains: [corp.test]}'

  it('are what the service takes of the user, and those that it gives to all', () => {
    expect(names('{}', { email: 'Alice.Smith+x@Corp.Test' })).toEqual(['Alice.Smith+x@corp.test'])
    expect(names('{principals: [deploy, root]}', { email: 'alice@corp.test' })).toEqual(['alice@corp.test', 'deploy', 'root'])
    expect(names(byName, { email: 'Alice.Smith@corp.test' })).toEqual(['alice.smith'])
    expect(names('{principal: subject, issuers: ["https://idp.test"]}', { subject: 'auth0|5f7c8ec7' })).toEqual(['auth0|5f7c8ec7'])
  })
  it('are none where one is not certainly the user\'s', () => {
    for (const email of [undefined, 'alice@evil.test', 'alice@corp.test.evil.test', 'alice@evil.test@corp.test', '"alice"@corp.test', 'alice+root@corp.test', 'root@corp.test', 'ROOT@corp.test', 'postgres@corp.test', 'systemd-network@corp.test', '_apt@corp.test', '0@corp.test', '-l@corp.test', 'alíce@corp.test', `${'a'.repeat(33)}@corp.test`, '@corp.test', '..@corp.test']) {
      expect([email, names(byName, { email })]).toEqual([email, null])
    }
    for (const email of [undefined, 'a,root@corp.test', 'a b@corp.test', 'a\n@corp.test', '*@corp.test', '-a@corp.test', '../a@corp.test', 'аlice@corp.test']) expect([email, names('{}', { email })]).toEqual([email, null])
    for (const subject of ['root', 'a,root', 'a b', '-a', '.', '*', 'a/b', '', 'a\u0000']) expect([subject, names('{principal: subject, issuers: ["https://idp.test"]}', { subject })]).toEqual([subject, null])
    expect(names('{principal: subject, issuers: ["https://idp.test"]}', { issuer: 'https://other.test', subject: 'alice' })).toBeNull()
    expect(names('{emailDomains: [corp.test]}', { email: 'alice@evil.test' })).toBeNull()
  })
  it('are those of system accounts only where the service lists them', () => {
    expect(names('{principal: email-name, emailDomains: [corp.test], principals: [git]}', { email: 'git@corp.test' })).toEqual(['git'])
  })
})

describe('the wire of SSH', () => {
  it('is read as it is written', () => {
    const written = joined([string('a'), strings(['b', 'ü']), uint32(0xffff_fffe), uint64(0xffff_ffff_ffff_fffen), string(new Uint8Array(3))])
    const reader = new WireReader(written)
    expect([reader.text(), reader.strings()?.length, reader.uint32(), reader.uint64(), reader.string().length, reader.isDone]).toEqual(['a', 2, 0xffff_fffe, 0xffff_ffff_ffff_fffen, 3, true])
    expect([reader.byte(), reader.failed, reader.isDone]).toEqual([0, true, false])
  })
  it('fails at what is not there, and stays so', () => {
    const reader = new WireReader(joined([uint32(0xffff_ffff), new Uint8Array(9)]))
    expect([reader.string().length, reader.uint32(), reader.failed]).toEqual([0, 0, true])
    expect(new WireReader(string(joined([string('a'), uint32(9)]))).strings()).toBeNull()
  })
  it('has keys that are read strictly', () => {
    const key = readKeyLine(`${KEY} comment`)
    expect(key === null ? null : keyLine(key.type, key.blob)).toBe(KEY)
    for (const text of ['', KEY.slice(0, -1), KEY.replace(' ', '  '), KEY.replace('ed25519', 'dss'), `${KEY}\n`, '__proto__ AAAA', `constructor ${btoa(String.fromCharCode(...string('constructor')))}`]) expect([text, readKeyLine(text)]).toEqual([text, null])
  })
})
