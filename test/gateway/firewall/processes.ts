// Programs inside namespaces: an EMS that says what the test says, the gateway as users run it, and a laptop that talks to a server.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { until } from '../fabric/follower-under-test.ts'
import { policiesText } from '../fabric/gateway-under-test.ts'
import type { Orders, Ready } from './ems-process.ts'
import { GATEWAY_ADDRESS, type Namespaces } from './namespaces.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const running = new Set<ChildProcess>()

function start(namespace: string, args: readonly string[], stdio: ('pipe' | 'ignore' | 'inherit' | 'ipc')[]): ChildProcess {
  // `ip netns exec` becomes the program: the process id is the program's own.
  const child = spawn('ip', ['netns', 'exec', namespace, process.execPath, ...args], { cwd: root, stdio })
  running.add(child)
  child.on('exit', () => running.delete(child))
  return child
}
export async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill(signal)
  await ended
}
export const endAll = async (): Promise<void> => {
  for (const child of running) await end(child, 'SIGKILL')
}

export interface EmsProcess extends Ready { say(orders: Orders): void }

export async function startEms({ gateway }: Namespaces): Promise<EmsProcess> {
  const child = start(gateway, ['test/gateway/firewall/ems-process.ts'], ['ignore', 'ignore', 'inherit', 'ipc'])
  const [ready] = await once(child, 'message') as [Ready]
  return { ...ready, say: (orders) => void child.send(orders) }
}

export interface GatewayProcess { readonly child: ChildProcess; readonly logged: { event: string; [name: string]: unknown }[] }
export const LISTS_PORT = 8444
export const PROXY_PORT = 8443
/** Short, so that ageing can be watched. */
export const SIGHT_SECONDS = 4

/** A directory for its state, and the program started on it as often as wanted; resolves when it serves. */
export async function gatewayProgram({ gateway }: Namespaces, ems: EmsProcess) {
  const directory = await mkdtemp(join(tmpdir(), 'gateway-process-'))
  const file = async (name: string, text: string) => {
    await writeFile(join(directory, name), text)
    return join(directory, name)
  }
  const [policies, code, tlsCa] = await Promise.all([file('policies.yaml', policiesText(1, 'healthy')), file('code', ems.joinCode), file('tls-ca.pem', ems.tlsCa)])
  const state = join(directory, 'state')
  return {
    state,
    async run(): Promise<GatewayProcess> {
      const child = start(gateway, [
        'gateway/main.ts', 'run', '--state', state, '--policies', policies, '--listen', `0.0.0.0:${PROXY_PORT}`, '--metrics-port', '0', '--join-code-file', code, '--tls-ca', tlsCa,
        '--firewall', '--lists', `${GATEWAY_ADDRESS.laptopSide}:${LISTS_PORT}`, '--sight-seconds', String(SIGHT_SECONDS),
      ], ['ignore', 'inherit', 'pipe'])
      const logged: GatewayProcess['logged'] = []
      if (child.stderr !== null) createInterface({ input: child.stderr }).on('line', (line) => logged.push(JSON.parse(line) as { event: string }))
      await until('a serving gateway', () => {
        if (child.exitCode !== null) throw new Error(`the gateway ended: ${JSON.stringify(logged)}`)
        return logged.some(({ event }) => event === 'serving')
      })
      return { child, logged }
    },
    remove: () => rm(directory, { recursive: true, force: true }),
  }
}

const ECHO = 'require("node:net").createServer((s) => { s.on("error", () => s.destroy()); s.pipe(s) }).listen(7, "::", () => process.stdout.write("ready\\n"))'
export async function startEcho({ server }: Namespaces): Promise<void> {
  const child = start(server, ['-e', ECHO], ['ignore', 'pipe', 'inherit'])
  await once(child.stdout ?? child, 'data')
}

const TALK = 'const s = require("node:net").connect(7, process.argv[1]); s.on("error", (e) => { console.error(e.message); process.exit(1) }); s.on("data", () => process.stdout.write("."));  setInterval(() => s.write("x"), 20)'
/** A laptop in the middle of a TCP connection: `heardAt` is when it last got something back. */
export async function startTalk({ laptop }: Namespaces, address: string): Promise<{ child: ChildProcess; heardAt: () => number }> {
  const child = start(laptop, ['-e', TALK, address], ['ignore', 'pipe', 'inherit'])
  let last = 0
  child.stdout?.on('data', () => {
    last = Date.now()
  })
  await until('an answer over TCP', () => last > 0)
  return { child, heardAt: () => last }
}

const KNOCK = `const fs = require("node:fs"); const [host, port, ca, cert, key, name] = process.argv.slice(1)
const s = require("node:tls").connect({ host, port, servername: name, ca: fs.readFileSync(ca), cert: fs.readFileSync(cert), key: fs.readFileSync(key), ALPNProtocols: ["http/1.1"] }, () => s.write("CONNECT greeter.test:7000 HTTP/1.1\\r\\nHost: greeter.test:7000\\r\\n\\r\\n"))
s.on("error", (e) => { console.error(e.message); process.exit(1) }); s.on("data", (d) => process.stdout.write(d)); s.on("end", () => s.end())`
/** The laptop proves itself at the gateway's proxy with its device certificate. @returns the answer's first line */
export async function knockFromLaptop({ laptop }: Namespaces, ems: EmsProcess, directory: string, tlsName: string): Promise<string> {
  const files = await Promise.all(Object.entries({ 'ca.pem': ems.authorityPem, 'cert.pem': ems.laptop.certificatePem, 'key.pem': ems.laptop.privateKeyPem }).map(async ([name, text]) => {
    await writeFile(join(directory, name), text)
    return join(directory, name)
  }))
  const child = start(laptop, ['-e', KNOCK, GATEWAY_ADDRESS.laptopSide, String(PROXY_PORT), ...files, tlsName], ['ignore', 'pipe', 'inherit'])
  const [answer] = await once(child.stdout ?? child, 'data') as [Buffer]
  await end(child, 'SIGKILL')
  return answer.toString().split('\r\n')[0] ?? ''
}

const FETCH = `const [host, port, ca, name, path, token] = process.argv.slice(1)
require("node:https").get({ host, port, path, servername: name, ca: require("node:fs").readFileSync(ca), headers: { authorization: "Bearer " + token } }, (r) => r.pipe(process.stdout)).on("error", (e) => { console.error(e.message); process.exit(1) })`
/** An address list as a firewall beside the laptop polls it. */
export async function pollFromLaptop({ inside, laptop }: Namespaces, ems: EmsProcess, directory: string, tlsName: string, path: string, token: string): Promise<string> {
  const ca = join(directory, 'ca.pem')
  await writeFile(ca, ems.authorityPem)
  return await inside(laptop, process.execPath, '-e', FETCH, GATEWAY_ADDRESS.laptopSide, String(LISTS_PORT), ca, tlsName, path, token)
}
