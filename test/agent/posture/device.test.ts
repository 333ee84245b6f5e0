// What conditions ask of the device: certificates of real stores, hashes of real programs, values of the registry as Windows prints them.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { createHash, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { copyFile, mkdir, readFile, readdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { deviceHere } from '../../../agent/posture/device-here.ts'
import { linuxCertificates, parseNicknames } from '../../../agent/posture/linux/certificate-stores.ts'
import { macosCertificates, parseIdentities } from '../../../agent/posture/macos/certificate-stores.ts'
import { readCommand } from '../../../agent/posture/read.ts'
import { windowsCertificates } from '../../../agent/posture/windows/certificate-stores.ts'
import { findValue, listsKey, windowsRegistry } from '../../../agent/posture/windows/registry.ts'
import { describeCertificate } from '../../../identity/describe-certificate.ts'
import { systemTimers } from '../../../node/timers.ts'
import { closeAll, onEnd, temporaryDirectory } from '../agent-under-test.ts'
import { machine } from './machine.ts'

afterEach(async () => {
  vi.unstubAllEnvs()
  await closeAll()
})
const own = process.getuid?.() ?? 0

/** A certificate by openssl and its key, as PEM. */
async function issued(subject: string, ...extensions: string[]): Promise<{ certificate: string; key: string }> {
  const at = await temporaryDirectory()
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30', '-utf8', '-subj', subject, '-keyout', join(at, 'k'), '-out', join(at, 'c'), ...extensions.flatMap((each) => ['-addext', each])], { stdio: 'ignore' })
  return { certificate: await readFile(join(at, 'c'), 'utf8'), key: await readFile(join(at, 'k'), 'utf8') }
}

describe('a certificate', () => {
  it('is described by names, times and uses', async () => {
    const { certificate } = await issued('/C=DE/O=Müller, Söhne/CN=laptop', 'keyUsage=critical,digitalSignature,keyAgreement', 'extendedKeyUsage=clientAuth,1.2.3.4')
    const described = await describeCertificate(certificate)
    const read = new X509Certificate(certificate)
    expect(described).toMatchObject({ subject: 'C=DE, O=Müller\\, Söhne, CN=laptop', keyUsage: ['digitalSignature', 'keyAgreement', 'clientAuth', '1.2.3.4'], notAfter: read.validToDate.getTime(), notBefore: read.validFromDate.getTime(), fingerprint: read.fingerprint256.replaceAll(':', '').toLowerCase() })
    expect(await describeCertificate('')).toBeNull()
    expect(await describeCertificate(Buffer.alloc(100_000))).toBeNull()
    expect(await describeCertificate(certificate.replace(/[A-Za-z]{8}/, 'AAAAAAAA'))).toSatisfy((each) => each === null || typeof each === 'object')
  })
})

describe('certificates on Linux', () => {
  it('are those of the system\'s directories, with the keys that lie beside them', async () => {
    const [held, plain, both] = await Promise.all([issued('/CN=held'), issued('/CN=plain'), issued('/CN=both')])
    const root = await machine({
      'etc/ssl/certs/held.pem': held.certificate, 'etc/ssl/certs/held-again.crt': held.certificate, 'etc/ssl/private/held.key': held.key, 'etc/ssl/private/broken.key': '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n',
      'etc/pki/tls/certs/bundle.pem': `# two\n${plain.certificate}\n${both.certificate}${both.key}`, 'etc/ssl/certs/garbage.pem': '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n', 'etc/ssl/certs/notes.txt': plain.certificate,
    })
    expect((await linuxCertificates(root, 5_000_000)()).map(({ subject, hasPrivateKey }) => `${subject} ${hasPrivateKey}`).sort()).toEqual(['CN=both true', 'CN=held true', 'CN=plain false'])
    expect(await linuxCertificates(await temporaryDirectory(), 5_000_000)()).toEqual([])
  })
  it('are here those that openssl reads', async ({ skip }) => {
    const names = (await readdir('/etc/ssl/certs').catch(() => [])).filter((name) => name.endsWith('.pem'))
    if (names.length === 0) return skip('there is no store of PEM files')
    vi.stubEnv('HOME', await temporaryDirectory())
    const read = (await Promise.all(names.map((name) => readFile(join('/etc/ssl/certs', name), 'latin1')))).map((pem) => new X509Certificate(pem))
    const found = await linuxCertificates('/', own)()
    const parts = (subject: string) => [...subject.matchAll(/CN=([^,\n]*)/g)].flatMap(([, name]) => name ?? []).join()
    expect(read.filter(({ subject, validTo }) => !found.some((each) => parts(each.subject) === parts(subject) && each.notAfter === Date.parse(validTo)))).toEqual([])
  })
  it('are those of the user\'s database too, read by its own tool', async ({ skip }) => {
    if (await readCommand('certutil', ['-H']) === null && (await readCommand('sh', ['-c', 'command -v certutil'])) === null) return skip('certutil is not installed')
    const home = await temporaryDirectory()
    vi.stubEnv('HOME', home)
    const database = join(home, '.pki/nssdb')
    await mkdir(database, { recursive: true })
    const [mine, theirs] = await Promise.all([issued('/CN=mine'), issued('/CN=theirs')])
    for (const [name, text] of Object.entries({ mine: `${mine.certificate}${mine.key}`, theirs: theirs.certificate })) await writeFile(join(home, name), text)
    const nss = (tool: string, ...args: string[]) => execFileSync(tool, ['-d', `sql:${database}`, ...args], { stdio: 'ignore' })
    nss('certutil', '-N', '--empty-password')
    nss('certutil', '-A', '-n', 'a name, with blanks', '-t', ',,', '-i', join(home, 'theirs'))
    execFileSync('openssl', ['pkcs12', '-export', '-in', join(home, 'mine'), '-out', join(home, 'p12'), '-passout', 'pass:x', '-name', 'mine'])
    nss('pk12util', '-i', join(home, 'p12'), '-W', 'x', '-K', '')
    const root = await machine({ 'etc/passwd': `me:x:${own}:${process.getgid?.() ?? 0}::${home}:/bin/sh\n` })
    const list = linuxCertificates(root, own)
    expect((await list()).map(({ subject, hasPrivateKey }) => `${subject} ${hasPrivateKey}`).sort()).toEqual(['CN=mine true', 'CN=theirs false'])
    // What can not be read is not "none".
    await writeFile(join(database, 'cert9.db'), 'no database')
    await expect(list()).rejects.toThrow(/can not be read/)
  })
  it('of a database carry a flag when their key is there', () => {
    const text = '\nCertificate Nickname                                         Trust Attributes\n                                                             SSL,S/MIME,JAR/XPI\n\nAda Lovelace - Example CA                                    u,u,u\nExample CA                                                   CT,C,\nplain                                                        ,,\n'
    expect(parseNicknames(text)).toEqual([{ nickname: 'Ada Lovelace - Example CA', hasPrivateKey: true }, { nickname: 'Example CA', hasPrivateKey: false }, { nickname: 'plain', hasPrivateKey: false }])
  })
})

describe('certificates elsewhere', () => {
  it('are read of Windows\' stores and of macOS\' keychain', async () => {
    const { certificate } = await issued('/CN=laptop')
    const { raw, fingerprint } = new X509Certificate(certificate)
    const der = raw.toString('base64')
    const windows = async (text: string | null) => (await windowsCertificates(() => Promise.resolve(text))()).map(({ subject, hasPrivateKey }) => `${subject} ${hasPrivateKey}`)
    expect(await windows(`\ufeff[{"der":"${der}","key":false},{"key":true,"der":"${der}"},{"der":"AAAA","key":false},{"der":7}]`)).toEqual(['CN=laptop true'])
    expect(await windows(`{"der":"${der}","key":false}`)).toEqual(['CN=laptop false'])
    await expect(windows(null)).rejects.toThrow()
    const identities = `Policy: X.509 Basic\n  Matching identities\n  1) ${fingerprint.replaceAll(':', '')} "laptop"\n     1 identities found\n\n  Valid identities only\n     0 valid identities found\n`
    const macos = async (found: string) => (await macosCertificates((_, [verb]) => Promise.resolve(verb === 'find-certificate' ? `keychain: x\n${certificate}` : found))()).map(({ subject, hasPrivateKey }) => `${subject} ${hasPrivateKey}`)
    expect([await macos(identities), await macos('')]).toEqual([['CN=laptop true'], ['CN=laptop false']])
    expect(parseIdentities('nothing').size).toBe(0)
    await expect(macosCertificates(() => Promise.resolve(null))()).rejects.toThrow()
  })
})

describe('a program', () => {
  const device = () => deviceHere({ root: '/', ownerUid: own, run: readCommand, now: Date.now, timers: systemTimers })
  const hashOf = async (process: ChildProcess) => await (await device().processes()).find(({ path }) => path === process.spawnfile)?.sha256?.() ?? null
  it('that runs is hashed, also after its file was replaced under it', async () => {
    const at = join(await temporaryDirectory(), 'guard')
    await copyFile('/bin/sleep', at)
    const wanted = createHash('sha256').update(await readFile(at)).digest('hex')
    const running = spawn(at, ['60'], { stdio: 'ignore' })
    onEnd(async () => {
      running.kill('SIGKILL')
      if (running.exitCode === null && running.signalCode === null) await once(running, 'exit')
    })
    await once(running, 'spawn')
    expect(await hashOf(running)).toBe(wanted)
    await writeFile(`${at}.new`, 'something else')
    await rename(`${at}.new`, at)
    expect(await hashOf(running)).toBe(wanted)
  })
  it('that has ended since it was seen has no hash', async () => {
    const at = join(await temporaryDirectory(), 'guard')
    await copyFile('/bin/sleep', at)
    const running = spawn(at, ['60'], { stdio: 'ignore' })
    await once(running, 'spawn')
    const seen = (await device().processes()).find(({ path }) => path === at)
    running.kill('SIGKILL')
    await once(running, 'exit')
    expect(await seen?.sha256?.()).toBeNull()
  })
})

describe('the registry', () => {
  // As `reg query` prints on a German Windows 11.
  const KEY = 'HKEY_LOCAL_MACHINE\\SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion'
  const listing = `\r\n${KEY}\r\n    (Standard)    REG_SZ    default text\r\n    SystemRoot    REG_SZ    C:\\WINDOWS\r\n    CurrentBuildNumber    REG_SZ    22631\r\n    UBR    REG_DWORD    0x1135\r\n    InstallTime    REG_QWORD    0x1d9f0e3a5c1b2d4\r\n    DigitalProductId    REG_BINARY    A40000FF\r\n    Names    REG_MULTI_SZ    one\\0two\r\n    Empty    REG_SZ    \r\n    Odd    REG_SZ    a    REG_SZ    b\r\n    Broken    REG_SZ    M\ufffdller\r\n    Strange    REG_RESOURCE_LIST    00\r\n\r\n${KEY}\\Accessibility\r\n${KEY}\\Fonts\r\n`
  it('tells values of every type, names without case', () => {
    expect(findValue(listing, 'systemroot', null)).toEqual({ exists: true, kind: 'string', value: 'C:\\WINDOWS' })
    expect(findValue(listing, 'UBR', null)).toEqual({ exists: true, kind: 'number', value: '4405' })
    expect(findValue(listing, 'InstallTime', null)).toEqual({ exists: true, kind: 'number', value: String(0x1d9f0e3a5c1b2d4n) })
    expect(findValue(listing, 'DigitalProductId', null)).toEqual({ exists: true, kind: 'bytes', value: 'a40000ff' })
    expect(findValue(listing, 'Names', null)).toEqual({ exists: true, kind: 'strings', value: 'one\ntwo' })
    expect(findValue(listing, 'Empty', null)).toEqual({ exists: true, kind: 'string', value: '' })
    expect(findValue(listing, 'Odd', null)).toEqual({ exists: true, kind: 'string', value: 'a    REG_SZ    b' })
    expect([findValue(listing, 'Broken', null), findValue(listing, 'Strange', null), findValue(listing, '.*', null), findValue(listing, 'Sys', null)]).toEqual(['unreadable', 'unreadable', null, null])
    expect(findValue(listing, '', `\r\n${KEY}\r\n    (Standard)    REG_SZ    default text\r\n\r\n`)).toEqual({ exists: true, kind: 'string', value: 'default text' })
    expect(findValue(listing.replace('    (Standard)    REG_SZ    default text\r\n', ''), '', `\r\n${KEY}\r\n    (Standard)    REG_SZ    (Wert nicht gesetzt)\r\n`)).toBeNull()
    expect([listsKey(listing, `${KEY}\\fonts`), listsKey(listing, `${KEY}\\Font`)]).toEqual([true, false])
  })
  it('says missing only where what is above it was listed', async () => {
    const keys: Record<string, string> = { HKEY_LOCAL_MACHINE: '\r\nHKEY_LOCAL_MACHINE\\SAM\r\nHKEY_LOCAL_MACHINE\\SOFTWARE\r\n', 'HKEY_LOCAL_MACHINE\\SOFTWARE': '\r\nHKEY_LOCAL_MACHINE\\SOFTWARE\\Secret\r\n', [KEY]: listing }
    const asked: string[][] = []
    const read = (account: string) => windowsRegistry((file, args) => {
      asked.push([file, ...args])
      return Promise.resolve(keys[args[1] ?? ''] ?? null)
    }, account)
    const registry = read('ada')
    expect(await registry(KEY, 'UBR')).toMatchObject({ value: '4405' })
    expect(await registry(KEY, 'nothing')).toEqual({ exists: false, missing: 'value' })
    expect(await registry(KEY, null)).toMatchObject({ exists: true })
    expect(await registry('HKEY_LOCAL_MACHINE\\SOFTWARE\\Nothing\\Below', 'x')).toEqual({ exists: false, missing: 'key' })
    expect(await registry('HKEY_LOCAL_MACHINE\\SOFTWARE\\Secret', 'x')).toBe('unreadable')
    expect(await registry('HKEY_USERS\\S-1\\x', 'x')).toBe('unreadable')
    // A service's own hive is not the user's.
    expect(await read('SYSTEM')('HKEY_CURRENT_USER\\Software\\x', 'x')).toBe('unreadable')
    expect(new Set(asked.map(([file]) => file))).toEqual(new Set(['C:\\Windows\\System32\\reg.exe']))
  })
})
