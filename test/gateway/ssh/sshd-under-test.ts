// A real sshd on a free port of loopback with keys of its own, and the real client through a gate. Where either is missing, what needs it says so and is left out.
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { SSH_CERTIFICATE_PATH, sshCertificateReply } from '../../../protocol/ssh.ts'
import { ask, connectTo, later, listen, openHttp2, type Credential, type Gate } from '../proxy/gate-under-test.ts'

const SSHD = '/usr/sbin/sshd'
const run = promisify(execFile)
export const isRoot = process.getuid?.() === 0
export const hasOpenSsh = existsSync(SSHD) && existsSync('/usr/bin/ssh') && existsSync('/usr/bin/ssh-keygen') && (isRoot || existsSync('/run/sshd'))
export const login = userInfo().username

export function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), 'ssh-'))
  later(() => rmSync(directory, { recursive: true }))
  return directory
}

export interface KeyFile { readonly file: string; readonly line: string }
/** A new key pair of OpenSSH. @param kind like `ed25519` or `ecdsa -b 384` */
export async function newKey(directory: string, name: string, kind = 'ed25519'): Promise<KeyFile> {
  const file = join(directory, name)
  await run('ssh-keygen', ['-q', '-N', '', '-C', '', '-f', file, '-t', ...kind.split(' ')])
  return { file, line: readFileSync(`${file}.pub`, 'utf8').trim() }
}

/** What ssh-keygen reads in a certificate or key. */
export async function inspect(directory: string, line: string): Promise<string> {
  const file = join(directory, `inspected-${Math.random()}.pub`)
  writeFileSync(file, `${line}\n`)
  return (await run('ssh-keygen', ['-L', '-f', file])).stdout
}

/** The fingerprint of a key, by ssh-keygen. */
export async function fingerprint(directory: string, line: string): Promise<string> {
  const file = join(directory, `key-${Math.random()}.pub`)
  writeFileSync(file, `${line}\n`)
  return /SHA256:\S+/.exec((await run('ssh-keygen', ['-l', '-f', file])).stdout)?.[0] ?? ''
}

export async function algorithms(kind: string): Promise<string[]> {
  return (await run('ssh', ['-Q', kind])).stdout.trim().split('\n')
}

async function unusedPort(): Promise<number> {
  const server = createServer()
  const port = await listen(server)
  await new Promise<void>((resolve) => server.close(() => resolve()))
  return port
}

export interface Sshd { readonly port: number; readonly directory: string; readonly hostKey: KeyFile; log(): string }

/**
 * Starts it.
 * @param principals who may log in as {@link login}
 * @param trusts lines of CAs
 */
export async function startSshd({ principals, trusts, more = [], hostKey }: { principals: readonly string[]; trusts: readonly string[]; more?: readonly string[]; hostKey?: KeyFile }): Promise<Sshd> {
  const directory = scratch()
  if (isRoot) mkdirSync('/run/sshd', { recursive: true })
  const key = hostKey ?? await newKey(directory, 'host')
  writeFileSync(join(directory, 'ca.pub'), trusts.map((line) => `${line}\n`).join(''))
  writeFileSync(join(directory, 'principals'), principals.map((name) => `${name}\n`).join(''))
  let said = ''
  for (let attempt = 0; attempt < 5; attempt++) {
    const port = await unusedPort()
    const config = join(directory, 'sshd_config')
    writeFileSync(config, [
      `Port ${port}`, 'ListenAddress 127.0.0.1', `HostKey ${key.file}`, `TrustedUserCAKeys ${join(directory, 'ca.pub')}`, `AuthorizedPrincipalsFile ${join(directory, 'principals')}`, 'AuthorizedKeysFile none', 'PasswordAuthentication no',
      'KbdInteractiveAuthentication no', 'UsePAM no', 'StrictModes no', 'PermitRootLogin yes', 'PidFile none', 'LogLevel VERBOSE', 'MaxStartups 100', ...more, '',
    ].join('\n'))
    const sshd = spawn(SSHD, ['-D', '-e', '-f', config], { stdio: ['ignore', 'ignore', 'pipe'] })
    const listening = Promise.withResolvers<boolean>()
    sshd.stderr.on('data', (chunk: Uint8Array) => {
      said += Buffer.from(chunk).toString()
      if (said.includes(`listening on 127.0.0.1 port ${port}`)) listening.resolve(true)
    })
    const ended = once(sshd, 'exit')
    sshd.once('exit', () => listening.resolve(false))
    if (await listening.promise) {
      later(async () => {
        sshd.kill('SIGTERM')
        await ended
      })
      return { port, directory, hostKey: key, log: () => said }
    }
  }
  throw new Error(`sshd does not start: ${said}`)
}

/** Listens on loopback and takes each connection through the gate, as an agent does. */
export async function through(gate: Gate, destination: string): Promise<{ port: number; denials: string[] }> {
  const denials: string[] = []
  const session = openHttp2(gate, gate.agent)
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy())
    connectTo(session, destination).then(({ status, stream }) => {
      if (status !== 200) {
        socket.destroy()
        return
      }
      stream.on('trailers', (trailers: Record<string, string>) => denials.push(decodeURIComponent(trailers['sallyport-denial'] ?? '')))
      stream.on('error', () => socket.destroy())
      stream.once('close', () => socket.destroySoon())
      socket.pipe(stream).pipe(socket)
    }, (error: Error) => socket.destroy(error))
  })
  later(() => server.close())
  return { port: await listen(server), denials }
}

export interface Outcome { readonly code: number; readonly stdout: string; readonly stderr: string }

/** Runs the real client; it takes whatever host key is shown unless told otherwise. */
export async function ssh({ port, key, certificate, command, options = [] }: { port: number; key: string; certificate?: string; command: string; options?: readonly string[] }): Promise<Outcome> {
  const configured = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'GlobalKnownHostsFile=/dev/null', 'BatchMode=yes', 'IdentitiesOnly=yes', 'IdentityAgent=none', 'ConnectTimeout=15', `IdentityFile=${key}`, ...(certificate === undefined ? [] : [`CertificateFile=${certificate}`]), ...options]
  const argv = ['-F', 'none', ...configured.flatMap((each) => ['-o', each]), '-p', String(port), `${login}@127.0.0.1`, command]
  return await run('ssh', argv, { timeout: 30_000 }).then(({ stdout, stderr }) => ({ code: 0, stdout, stderr }), (error: { code?: number; stdout?: string; stderr?: string }) => ({ code: error.code ?? -1, stdout: error.stdout ?? '', stderr: error.stderr ?? '' }))
}

/** Asks the gate for a certificate, with whatever headers and body. */
export async function post(gate: Gate, credential: Credential | null, body: string, headers: Record<string, string> = {}, method = 'POST'): Promise<{ status: number; text: string }> {
  const stream = openHttp2(gate, credential).request({ ':method': method, ':path': SSH_CERTIFICATE_PATH, ':authority': 'gate.test', ':scheme': 'https', 'content-type': 'application/json', ...headers }, { endStream: method === 'GET' })
  stream.on('error', () => stream.destroy())
  if (method !== 'GET') stream.end(body)
  const [head] = await once(stream, 'response') as [{ ':status': number }]
  let text = ''
  for await (const chunk of stream) text += String(chunk)
  return { status: head[':status'], text }
}

/** Asks as an agent does. @throws Error with the refusal */
export async function certificateFor(gate: Gate, { host = 'host.test', port = 22, publicKey }: { host?: string; port?: number; publicKey: string }) {
  const { status, text } = await post(gate, gate.agent, JSON.stringify({ host, port, publicKey }))
  if (status !== 200) throw new Error(`${status} ${text}`)
  return sshCertificateReply.parse(JSON.parse(text))
}

/** The key of the CA, as the gateway publishes it. */
export async function publishedAuthority(gate: Gate): Promise<string[]> {
  const answer = await ask(openHttp2(gate, null), { ':method': 'GET', ':path': '/.well-known/sallyport/ssh-ca.pub', ':authority': 'gate.test', ':scheme': 'https' })
  const text = await answer.body()
  return answer.status === 200 ? text.trim().split('\n') : []
}
