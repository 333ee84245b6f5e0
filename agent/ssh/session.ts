// One SSH session by the system's ssh: a key and a certificate of its own in a directory of its own, which goes with it however it ends.
import { spawn } from 'node:child_process'
import { constants, tmpdir } from 'node:os'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { writePrivateFile } from '../../node/key-store.ts'
import type { Target } from '../tunnel/target.ts'
import { askCertificate, knownHosts, whyNone, writeCertificate, type Ask, type Issued } from './certificate.ts'
import { isAccount } from './destination.ts'
import { makeKey, openSshMissing, publicKeyOf } from './key.ts'
import { ownCommand } from './own-command.ts'
import { shellWord } from './quote.ts'

export interface SessionOptions {
  readonly ask: Ask
  /** Of the agent's state; absolute. */
  readonly directory: string
  readonly target: Target
  /** null: the person named none. */
  readonly user: string | null
  /** Options of ssh and the command, as the person gave them. */
  readonly words: readonly string[]
  /** Told what the person should know and what ends nothing. */
  readonly tell: (sentence: string) => void
}

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
const option = (name: string, value: string): string[] => ['-o', `${name}=${value}`]
/** What ssh reads as an argument with a file in it: it expands `%`, and splits at spaces what is not quoted. */
const fileOption = (name: string, path: string): string[] => option(name, `"${path.replaceAll('%', '%%').replaceAll('"', '\\"')}"`)

async function optionsFor(issued: Issued, key: string, target: Target): Promise<string[]> {
  await writeCertificate(`${key}-cert.pub`, issued)
  const hosts = knownHosts(issued, target)
  const known = `${key}.known_hosts`
  if (hosts !== '') await writePrivateFile(known, hosts)
  return [
    ...fileOption('IdentityFile', key), ...fileOption('CertificateFile', `${key}-cert.pub`), ...option('IdentitiesOnly', 'yes'),
    // Only what the gateway was told; where it was told nothing, ssh's own way is left.
    ...(hosts === '' ? [] : [...fileOption('UserKnownHostsFile', known), ...option('GlobalKnownHostsFile', '/dev/null'), ...option('KnownHostsCommand', 'none'), ...option('StrictHostKeyChecking', 'yes'), ...option('VerifyHostKeyDNS', 'no'), ...option('UpdateHostKeys', 'no')]),
  ]
}

/** @returns ssh's exit code, or 128 and the signal that ended it */
function runSsh(args: readonly string[], stopping: AbortSignal): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  const child = spawn('ssh', args, { stdio: 'inherit' })
  const pass = () => { child.kill(stopping.reason as NodeJS.Signals) }
  stopping.addEventListener('abort', pass, { once: true })
  child.once('error', (cause: NodeJS.ErrnoException) => reject(cause.code === 'ENOENT' ? openSshMissing('ssh') : cause))
  child.once('exit', (code, signal) => resolve(code ?? 128 + constants.signals[signal ?? 'SIGTERM']))
  return promise
}

/** A person who calls it off does not wait for a gateway. @throws a sentence then */
function unlessStopped<T>(asked: Promise<T>, stopping: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const stop = () => reject(new Error('Called off.'))
  if (stopping.aborted) stop()
  else stopping.addEventListener('abort', stop, { once: true })
  return Promise.race([asked, promise]).finally(() => stopping.removeEventListener('abort', stop))
}

async function begin({ ask, directory, target, user, words, tell }: SessionOptions, room: string, stopping: AbortSignal): Promise<number> {
  const key = join(room, 'key')
  await makeKey(key)
  const answer = await unlessStopped(askCertificate(ask, target, await publicKeyOf(key)), stopping)
  if (answer.outcome !== 'issued' && answer.outcome !== 'none') throw new Error(whyNone(answer, target) ?? '')
  if (answer.outcome === 'none') tell(whyNone(answer, target) ?? '')
  const [principal] = answer.outcome === 'issued' ? answer.reply.principals : []
  const login = user ?? (principal !== undefined && isAccount(principal) ? principal : null)
  const certified = answer.outcome === 'issued' ? await optionsFor(answer, key, target) : []
  if (stopping.aborted) return 128 + constants.signals[stopping.reason as NodeJS.Signals]
  const { host, port } = target
  const code = await runSsh([
    ...option('ProxyCommand', ownCommand('connect', directory, '--', shellWord(host), String(port))), ...option('ProxyUseFdpass', 'no'), ...option('HostName', host), ...certified,
    '-p', String(port), ...(login === null ? [] : ['-l', login]), host, ...words,
  ], stopping)
  // 255 is ssh's own: a host that takes the certificate for none of that account's says no more than "denied".
  if (code === 255 && answer.outcome === 'issued' && login !== null && !answer.reply.principals.includes(login)) tell(`The certificate names ${answer.reply.principals.join(', ')}; whether that may log in as ${login} is for the host to say.`)
  return code
}

/** @returns the exit code of ssh. @throws a sentence when the gateway refuses, or none leads there */
export async function sshSession(options: SessionOptions): Promise<number> {
  const stopping = new AbortController()
  // A terminal's Ctrl-C reaches ssh too, which knows better what it means.
  const handlers = signals.map((name) => [name, () => stopping.abort(name)] as const)
  for (const [name, stop] of handlers) process.on(name, stop)
  const room = await mkdtemp(join(tmpdir(), 'sallyport-ssh-'))
  try {
    return await begin(options, room, stopping.signal)
  } finally {
    await rm(room, { recursive: true, force: true })
    for (const [name, stop] of handlers) process.off(name, stop)
  }
}
