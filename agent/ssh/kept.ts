// Certificates that are kept for plain ssh, git, scp and rsync: one key and one certificate for each host and port, in the person's own directory. They end soon, and are renewed when ssh asks.
import { link, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import { readJson, writeJson, writePrivateFile } from '../../node/key-store.ts'
import { protection, type SshCertificateAnswer } from '../local-status.ts'
import { isThere } from '../posture/read.ts'
import type { Target } from '../tunnel/target.ts'
import { askCertificate, knownHosts, writeCertificate, type Ask } from './certificate.ts'
import { makeKey, publicKeyOf } from './key.ts'

/** Where they are kept; ssh finds them by names made of `%h` and `%p`. */
export const keptDirectory = (home = homedir()): string => join(home, '.ssh', 'sallyport')
/** What stands behind the name of a host's key, for the files beside it. */
export const suffixes = { certificate: '-cert.pub', knownHosts: '.known_hosts' }
/** The files of one host. */
export const keptFiles = (directory: string, { host, port }: Target) => {
  const key = join(directory, `${host}_${port}`)
  return { key, certificate: `${key}${suffixes.certificate}`, knownHosts: `${key}${suffixes.knownHosts}`, about: `${key}.json` }
}
/** ms, by this machine's clock */
const about = z.object({ from: z.number(), until: z.number() })

/** The key, made where there is none; of two at once, one is kept. */
async function keyAt(directory: string, path: string): Promise<void> {
  if (await isThere(path)) return
  const room = await mkdtemp(join(directory, 'new-'))
  try {
    await makeKey(join(room, 'key'))
    await link(join(room, 'key'), path).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'EEXIST') throw cause
    })
  } finally {
    await rm(room, { recursive: true, force: true })
  }
}

async function forget(files: ReturnType<typeof keptFiles>): Promise<void> {
  for (const path of Object.values(files)) await rm(path, { force: true })
}

/** `fresh`: what is kept serves. Else what the agent answered; what was kept before is gone unless no gateway could be asked. */
export type Kept = { readonly outcome: 'fresh' } | SshCertificateAnswer

/** The keys of a host come with its certificate: a list that has changed must not be unknown for as long as a certificate of hours. */
const KEYS_KEPT_MS = 300_000

/** Renews the certificate for a host where less than a third of its life is left, or five minutes have passed. @param now ms */
export async function keepCertificate(ask: Ask, target: Target, { directory, now }: { directory: string; now: number }): Promise<Kept> {
  const files = keptFiles(directory, target)
  const known = await readJson(files.about, about)
  if (known !== null && known.from <= now && now - known.from < KEYS_KEPT_MS && known.until - now > (known.until - known.from) / 3 && await isThere(files.key) && await isThere(files.certificate)) return { outcome: 'fresh' }
  // For every host that plain ssh goes to: no key is made for one that is none of ours.
  if (!protection.parse(await ask({ ask: 'protects', ...target })).protects) {
    await forget(files)
    return { outcome: 'unprotected' }
  }
  await mkdir(directory, { recursive: true, mode: 0o700 })
  await keyAt(directory, files.key)
  const answer = await askCertificate(ask, target, await publicKeyOf(files.key))
  if (answer.outcome === 'unreachable' && known !== null && known.until > now) return answer
  if (answer.outcome !== 'issued') {
    await forget(files)
    return answer
  }
  const hosts = knownHosts(answer, target)
  if (hosts === '') await rm(files.knownHosts, { force: true })
  else await writePrivateFile(files.knownHosts, hosts)
  await writeCertificate(files.certificate, answer)
  await writeJson(files.about, { from: now, until: now + answer.leftMs } satisfies z.infer<typeof about>)
  return answer
}

/** Takes away every kept key and certificate. */
export async function forgetCertificates(directory: string): Promise<void> {
  const names = await readdir(directory).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'ENOENT') throw cause
    return []
  })
  for (const name of names) await rm(join(directory, name), { recursive: true, force: true })
}
