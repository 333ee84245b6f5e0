// Certificates that a Linux machine holds: PEM files of the system's directories, and NSS databases of the system and of the enrolled user, read as that user.
import { createPrivateKey, createPublicKey, createHash } from 'node:crypto'
import { join } from 'node:path'
import type { InstalledCertificate } from '../../../domain/tagging/device.ts'
import { describeCertificate, type DescribedCertificate } from '../../../identity/describe-certificate.ts'
import { findOwner, runAs, type RunAsOwner } from '../../certificates/browsers/linux/owner.ts'
import { createKept } from '../kept.ts'
import { isThere, readForeign, readNamesUpTo } from '../read.ts'

/** Debian and its kin, Red Hat and its kin, SUSE. */
const certificateDirectories = ['etc/ssl/certs', 'usr/local/share/ca-certificates', 'etc/pki/tls/certs', 'etc/pki/ca-trust/source/anchors', 'etc/pki/trust/anchors']
const keyDirectories = ['etc/ssl/private', 'etc/pki/tls/private']
const systemDatabases = ['etc/pki/nssdb']
const userDatabases = ['.pki/nssdb', '.local/share/pki/nssdb']
const MOST_FILES = 2_000
const MOST_CERTIFICATES = 4_000
/** The system's bundle of authorities is a quarter of this. */
const MAX_FILE_BYTES = 1024 * 1024
const MOST_NICKNAMES = 64

const pems = (text: string, what: string): string[] => text.match(new RegExp(`-----BEGIN ${what}-----[A-Za-z0-9+/=\\s]+-----END ${what}-----`, 'g')) ?? []
interface Held { readonly certificate: DescribedCertificate; readonly hasPrivateKey: boolean }

/** SHA-256 of the public half of each private key in a PEM text, hex. A key under a password is nobody's to use, so it counts for none. */
function publicHalves(text: string): string[] {
  return pems(text, '(?:RSA |EC )?PRIVATE KEY').flatMap((pem) => {
    try {
      return [createHash('sha256').update(createPublicKey(createPrivateKey(pem)).export({ type: 'spki', format: 'der' })).digest('hex')]
    } catch {
      return [] // not a key after all, or of a kind that this system does not know
    }
  })
}

/** `certutil -L`: nicknames and trust; a `u` among the flags says that the private key is there. */
export const parseNicknames = (text: string): { nickname: string; hasPrivateKey: boolean }[] => text.split('\n').flatMap((row) => {
  const [, nickname, flags] = /^(.*\S)\s+([a-zA-Z]*,[a-zA-Z]*,[a-zA-Z]*)\s*$/.exec(row) ?? []
  return nickname === undefined || flags === undefined ? [] : [{ nickname, hasPrivateKey: flags.includes('u') }]
}).slice(0, MOST_NICKNAMES)

async function readFiles(paths: readonly string[]): Promise<string[]> {
  const texts: string[] = []
  for (const path of paths) {
    const bytes = await readForeign(path, MAX_FILE_BYTES, null)
    if (bytes !== null) texts.push(bytes.toString('latin1'))
  }
  return texts
}

async function readDatabase(directory: string, run: RunAsOwner): Promise<Held[]> {
  const listed = await run('certutil', ['-L', '-d', `sql:${directory}`])
  if (!listed.ok) throw new Error(listed.missing ? 'certutil is not installed, so a certificate database can not be read' : 'a certificate database can not be read')
  const held: Held[] = []
  for (const { nickname, hasPrivateKey } of parseNicknames(listed.stdout)) {
    const shown = await run('certutil', ['-L', '-d', `sql:${directory}`, '-n', nickname, '-a'])
    if (!shown.ok) throw new Error('a certificate of a database can not be read')
    for (const pem of pems(shown.stdout, 'CERTIFICATE')) {
      const certificate = await describeCertificate(pem)
      if (certificate !== null) held.push({ certificate, hasPrivateKey })
    }
  }
  return held
}

/**
 * Every certificate once. Throws when a database is there and can't be read: what is not seen must not be taken for missing.
 * @param root where the machine's file system begins
 */
export function linuxCertificates(root: string, ownerUid: number): () => Promise<InstalledCertificate[]> {
  const kept = createKept<Held[]>()

  async function filesIn(directories: readonly string[], wanted: RegExp): Promise<string[]> {
    const names = await Promise.all(directories.map(async (directory) => (await readNamesUpTo(join(root, directory), MOST_FILES) ?? []).filter((name) => wanted.test(name)).sort().map((name) => join(root, directory, name))))
    return names.flat().slice(0, MOST_FILES)
  }

  async function systemCertificates(): Promise<Held[]> {
    // Links by hash lead to files that are named beside them.
    const [files, keys] = [await filesIn(certificateDirectories, /\.(pem|crt|cer)$/), await filesIn(keyDirectories, /\.(pem|key)$/)]
    return await kept('files', [...certificateDirectories, ...keyDirectories].map((path) => join(root, path)).concat(files, keys), async () => {
      const texts = await readFiles(files)
      const own = new Set([...texts, ...await readFiles(keys)].flatMap(publicHalves))
      const held = new Map<string, Held>()
      for (const pem of new Set(texts.flatMap((text) => pems(text, '(?:TRUSTED )?CERTIFICATE')))) {
        const certificate = held.size >= MOST_CERTIFICATES ? null : await describeCertificate(pem.replaceAll('TRUSTED ', ''))
        if (certificate !== null) held.set(certificate.fingerprint, { certificate, hasPrivateKey: own.has(certificate.keyFingerprint) })
      }
      return [...held.values()]
    })
  }

  async function databaseCertificates(): Promise<Held[]> {
    const owner = await findOwner(root, ownerUid)
    const runOwner = owner === null ? null : runAs(owner)
    const databases = owner === null ? [] : [...systemDatabases.map((path) => join(root, path)), ...userDatabases.map((path) => join(owner.home, path))]
    const held: Held[] = []
    for (const directory of databases) {
      const files = ['cert9.db', 'key4.db'].map((name) => join(directory, name))
      if (runOwner !== null && await isThere(files[0] ?? '')) held.push(...await kept(directory, files, () => readDatabase(directory, runOwner)))
    }
    return held
  }

  return async () => {
    const once = new Map<string, InstalledCertificate>()
    for (const { certificate: { fingerprint, keyFingerprint: _, ...said }, hasPrivateKey } of [...await databaseCertificates(), ...await systemCertificates()]) {
      once.set(fingerprint, { ...said, hasPrivateKey: hasPrivateKey || once.get(fingerprint)?.hasPrivateKey === true })
    }
    return [...once.values()]
  }
}
