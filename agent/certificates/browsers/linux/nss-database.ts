// One NSS database (`certutil`, `pk12util` of Debian's libnss3-tools), used as the user whose it is. It touches only what it is told by key id or by name.
import { chmod, chown, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readCertificate } from '../../../../identity/certificate.ts'
import { fromHex, fromPem, toHex } from '../../../../identity/encoding.ts'
import { importPublicKey, newSecret } from '../../../../identity/keys.ts'
import { storeKeyId, writePkcs12 } from '../../../../identity/pkcs12.ts'
import { tellsOfFile } from '../../../posture/read.ts'
import { certificateOf, type HeldCertificate } from '../browser-record.ts'
import { StoreFailure, type BrowserStore } from '../browser-store.ts'
import type { Owner, RunAsOwner } from './owner.ts'

/** As a file of passwords: none. A database that has one is its user's own affair. */
const NO_PASSWORD = '/dev/null'
/** All certificates of one subject share one name in such a database, old and new alike; only their keys tell them apart. */
const byKey = (keyId: string): string => `pkcs11:id=${keyId.replaceAll(/../g, '%$&')}`
/** What `certutil` says where there is no such certificate. */
const NO_CERTIFICATE = /could not find cert/i
const pems = (text: string): string[] => text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []

export function openNssDatabase(directory: string, owner: Owner, run: RunAsOwner): BrowserStore {
  const database = ['-d', `sql:${directory}`]
  const certificates = join(directory, 'cert9.db')
  const watched = [certificates, join(directory, 'key4.db')]

  async function tool(name: 'certutil' | 'pk12util' | 'mkdir', args: readonly string[], absent?: RegExp): Promise<string> {
    const ran = await run(name, args)
    if (ran.ok) return ran.stdout
    if (ran.missing) throw new StoreFailure(`${name} is not installed; install libnss3-tools (Debian, Ubuntu) or nss-tools (Fedora).`)
    if (absent?.test(ran.reason) === true) return ''
    const why = /BAD_PASSWORD|TOKEN_NOT_LOGGED_IN|USER_CANCELLED|INVALID_PASSWORD|Incorrect password/.test(ran.reason) ? 'it has a password of its own (a primary password), under which nothing can be put there' : ran.reason.split('\n').at(-1)
    throw new StoreFailure(`${directory}: ${why}.`)
  }
  async function there(): Promise<boolean> {
    const ran = await run('test', ['-f', certificates])
    if (!ran.ok && ran.code !== 1) throw new StoreFailure(`${directory} can not be looked at: ${ran.reason}.`)
    return ran.ok
  }
  const keyIds = async (): Promise<string[]> => (await tool('certutil', ['-K', ...database, '-f', NO_PASSWORD], /no keys found/)).match(/\b[0-9a-f]{40}\b/g) ?? []

  /** Runs with the files that hold a key and its password. The directory stays the agent's own, so that nobody swaps what is written or removed. */
  async function withFiles(files: Record<string, string | Uint8Array>, action: (directory: string) => Promise<unknown>): Promise<void> {
    const place = await mkdtemp(join(tmpdir(), 'sallyport-browser-'))
    try {
      for (const [name, content] of Object.entries(files)) {
        const path = join(place, name)
        await writeFile(path, content, { mode: 0o600, flag: 'wx' })
        if (owner.uid !== process.getuid?.()) await chown(path, owner.uid, owner.gid)
      }
      await chmod(place, 0o711)
      await action(place)
    } finally {
      await rm(place, { recursive: true, force: true })
    }
  }

  return {
    directory, watched,
    async signature() {
      try {
        const facts = await Promise.all(watched.map((path) => stat(path, { bigint: true })))
        return facts.map(({ ino, size, mtimeNs, ctimeNs }) => `${ino}:${size}:${mtimeNs}:${ctimeNs}`).join()
      } catch (cause) {
        if (tellsOfFile(cause)) return null
        throw cause
      }
    },
    async holds(held) {
      if (!await there()) return false
      const wanted = certificateOf(held).der
      const found = pems(await tool('certutil', ['-L', ...database, '-n', byKey(held.keyId), '-a'], NO_CERTIFICATE))
      return found.some((pem) => Buffer.from(fromPem('CERTIFICATE', pem) ?? []).equals(wanted)) && (await keyIds()).includes(held.keyId)
    },
    async put(held: HeldCertificate, name: string) {
      if (!await there()) {
        await tool('mkdir', ['-p', '-m', '700', '--', directory])
        await tool('certutil', ['-N', ...database, '--empty-password'])
      }
      const privateKeyDer = fromPem('PRIVATE KEY', held.privateKeyPem)
      if (privateKeyDer === null) throw new Error('a key in browsers.json can not be read; move that file away')
      const password = newSecret()
      const pkcs12 = await writePkcs12({ privateKeyDer, certificateDer: certificateOf(held).der, keyId: fromHex(held.keyId), name, password })
      await withFiles({ 'browser.p12': pkcs12, 'password': `${password}\n` }, (place) => tool('pk12util', ['-i', join(place, 'browser.p12'), ...database, '-k', NO_PASSWORD, '-w', join(place, 'password')]))
    },
    async remove(keyId) {
      if (!await there()) return
      if ((await keyIds()).includes(keyId)) await tool('certutil', ['-F', ...database, '-k', keyId, '-f', NO_PASSWORD])
      await tool('certutil', ['-D', ...database, '-n', byKey(keyId)], NO_CERTIFICATE)
    },
    async named(name) {
      if (!await there()) return []
      const found = pems(await tool('certutil', ['-L', ...database, '-n', name, '-a'], NO_CERTIFICATE))
      const infos = found.map((pem) => readCertificate(pem)).filter((info) => info !== null)
      return await Promise.all(infos.map(async ({ publicKeySpki }) => toHex(await storeKeyId(await importPublicKey(publicKeySpki)))))
    },
  }
}
