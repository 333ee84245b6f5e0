// A machine of its own, run inside a network and a mount namespace: a real gate, services, a resolver that writes down what it is asked, and
// the agent's tunnel in transparent mode. It prints what it saw, a JSON line a step; machine.test.ts judges.
import { execFile, execFileSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { cpSync, existsSync, mkdtempSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { createServer as createTcpServer, type AddressInfo, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startTunnel } from '../../../../agent/tunnel/start.ts'
import { addressesOf } from '../../../../agent/tunnel/transparent/loopback-addresses.ts'
import { profileSettings, type ProfileSettings } from '../../../../protocol/profile.ts'
import { GATEWAY, startGate } from '../../../gateway/proxy/gate-under-test.ts'
import { createTestAuthority } from '../test-certificates.ts'

const FIRST = 1234
const OTHER = 4321
const [directory = '', phase = 'all'] = process.argv.slice(2)
const marker = join(directory, 'machine.changed')
const run = (file: string, ...args: string[]) => execFileSync(file, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
const say = (step: string, value: unknown): void => void process.stdout.write(`${JSON.stringify({ step, value })}\n`)
const tables = () => run('nft', 'list', 'tables').trim()
const hostsText = () => readFileSync('/etc/hosts', 'utf8')
/** The output of a program of one user, or why there is none. */
const as = (uid: number, command: string[], env: NodeJS.ProcessEnv = {}): Promise<string> => new Promise((resolve) => {
  execFile('setpriv', [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', ...command], { cwd: '/', timeout: 150_000, env: { PATH: '/usr/bin:/bin', ...env } }, (error, stdout) => resolve(error === null ? stdout : `failed ${String(error.code)} ${stdout}`))
})
const curl = (...args: string[]) => ['curl', '-sS', '--max-time', '30', '--noproxy', '*', ...args]

// ── the machine: /etc of its own (a file that is mounted can't be replaced), an address with a way out, and addresses of services ──
if (!existsSync(join(directory, 'etc'))) {
  // Browsers' policies come and go meanwhile, by other tests.
  cpSync('/etc', join(directory, 'etc'), { recursive: true, verbatimSymlinks: true, filter: (path) => !/^\/etc\/(chromium\/policies|firefox|opt)$/.test(path) })
  run('ip', 'link', 'set', 'lo', 'up')
  run('ip', 'link', 'add', 'out', 'type', 'veth', 'peer', 'name', 'far')
  for (const link of ['out', 'far']) run('ip', 'link', 'set', link, 'up')
  run('ip', 'addr', 'add', '192.168.7.5/24', 'dev', 'out')
  run('ip', 'addr', 'add', 'fd77::5/64', 'dev', 'out', 'nodad')
  run('ip', 'route', 'add', 'default', 'via', '192.168.7.1')
  run('ip', '-6', 'route', 'add', 'default', 'via', 'fd77::1')
  for (const address of ['10.9.8.7/32', '10.200.0.1/32', 'fd00:9::7/128']) run('ip', 'addr', 'add', address, 'dev', 'lo', ...address.includes(':') ? ['nodad'] : [])
  run('mount', '--bind', join(directory, 'etc'), '/etc')
  writeFileSync('/etc/hosts', '127.0.0.1 localhost\n')
  writeFileSync('/etc/resolv.conf', 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n')
}

// ── services and their gate ──
const hits: string[] = []
const web = () => createServer((request, response) => {
  hits.push(`${request.socket.localAddress} ${request.headers.host}`)
  response.end(`page of ${request.headers.host} at ${request.socket.localAddress}`)
})
const authority = createTestAuthority('services')
const own = authority.gateway('SPGW0123456789AC')
const secure = createTlsServer({ cert: own.certificatePem, key: own.privateKeyPem }, (_request, response) => response.end('secure page'))
const greeter = createTcpServer((socket) => {
  socket.on('error', () => socket.destroy())
  socket.on('data', (bytes) => socket.end(`you said ${bytes.toString()}`))
  socket.write('hello first\n')
})
const listen = (server: Server, port: number, host: string): Promise<number> => new Promise((resolve) => {
  server.listen(port, host, () => resolve((server.address() as AddressInfo).port))
})
for (const host of ['127.0.0.1', '10.9.8.7', 'fd00:9::7', '10.200.0.1']) await listen(web(), 8000, host)
await listen(web(), 9500, '127.0.0.1')
await listen(secure, 8443, '127.0.0.1')
await listen(greeter, 2525, '127.0.0.1')
await listen(createTcpServer((socket) => socket.end('not protected\n')), 7001, '0.0.0.0')
// Somebody else's server on every address: no listener of the agent can have this port.
await listen(createTcpServer((socket) => {
  socket.on('error', () => socket.destroy())
  socket.end(`a server at ${socket.localAddress}\n`)
}), 7000, '0.0.0.0')

const gate = await startGate(`
services:
  - {name: wiki, protocol: tcp, match: [wiki.corp.test], ports: [8000, 8443, 2525, 7000], addresses: [127.0.0.1]}
  - {name: wide, protocol: tcp, match: [wide.corp.test], ports: [9000-9999], addresses: [127.0.0.1]}
  - {name: range, protocol: tcp, match: [10.9.0.0/16, "fd00:9::/32"], ports: [8000], addresses: [10.9.8.7, "fd00:9::7"]}
policies: [{name: staff, services: [wiki, wide, range], tags: {all: [compliant]}, action: allow}]
`, { resolve: () => Promise.resolve(['127.0.0.1']) })

// ── a resolver that knows one name and remembers every question ──
const asked: string[] = []
const resolver = createSocket('udp4')
resolver.on('message', (question, from) => {
  const labels: string[] = []
  let at = 12
  for (let length = question[at] ?? 0; length > 0; length = question[at] ?? 0) {
    labels.push(question.subarray(at + 1, at + 1 + length).toString('latin1'))
    at += length + 1
  }
  asked.push(`${labels.join('.')} ${question.readUInt16BE(at + 1)}`)
  const answer = Buffer.from(question)
  answer.writeUInt16BE(0x8183, 2)
  resolver.send(answer, from.port, from.address)
})
await new Promise<void>((resolve) => resolver.bind(53, '127.0.0.1', resolve))
// Questions to any other resolver, by any protocol.
run('nft', 'add table inet watch; add chain inet watch out { type filter hook output priority 0; }; add rule inet watch out meta l4proto { tcp, udp } th dport { 53, 853 } ip daddr != 127.0.0.1 counter; add rule inet watch out meta nfproto ipv6 meta l4proto { tcp, udp } th dport { 53, 853 } counter')
const elsewhere = () => [...run('nft', 'list', 'table', 'inet', 'watch').matchAll(/counter packets (\d+)/g)].map(([, count]) => Number(count))

// ── the agent ──
const ports = [8000, 8443, 2525, 7000]
let settings: ProfileSettings = profileSettings.parse({
  gateways: [{ serial: GATEWAY, host: '127.0.0.1', port: gate.proxy.port }], proxy: { httpPort: 0, socksPort: 0 }, tunnel: { transparent: phase !== 'after' },
  destinations: [{ match: 'wiki.corp.test', ports, gateway: GATEWAY }, { match: 'wide.corp.test', ports: [{ from: 9000, to: 9999 }], gateway: GATEWAY }, { match: '*.wild.test', ports: [80], gateway: GATEWAY }, { match: '10.9.0.0/16', ports: [8000], gateway: GATEWAY }, { match: 'fd00:9::/32', ports: [8000], gateway: GATEWAY }],
})
let changed = () => {}
const events: string[] = []
const record = ({ event }: { event: string }) => void events.push(event)
const tunnel = await startTunnel({
  settings: () => settings, onSettings(listener) {
    changed = listener
    return () => {}
  },
  identity: () => ({ certificatePem: gate.agent.cert, privateKeyPem: gate.agent.key }), authorities: () => [gate.authority.certificatePem], ownerUid: FIRST,
  log: { info: record, warn: record, error: record }, now: Date.now, onDenial: () => {},
  pacPath: '/0123456789abcdefghijAB/proxy.pac', transparent: { hostsFile: '/etc/hosts', marker, isAsked: false, ems: 'ems.test', onDefect: (cause) => { throw cause } },
})
const until = async (what: string, test: () => boolean): Promise<void> => {
  for (const limit = Date.now() + 60_000; !test();) {
    if (Date.now() > limit) throw new Error(`${what} did not come`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
const opened = async () => Number(/sallyport_decisions_total\{[^}]*allow[^}]*\} (\d+)/.exec(await gate.metrics.text())?.[1] ?? 0)

if (phase === 'after') {
  say('after a kill', { hosts: hostsText(), tables: tables(), marker: existsSync(marker), state: tunnel.transparent() })
  process.exit(0)
}
const address = addressesOf(['wiki.corp.test']).get('wiki.corp.test') ?? ''
say('started', { state: tunnel.transparent(), hosts: hostsText(), tables: tables() })

// ── names ──
say('curl', [
  await as(FIRST, curl('http://wiki.corp.test:8000/')), await as(FIRST, curl('-4', 'http://wiki.corp.test:8000/')), await as(FIRST, curl('-6', 'http://wiki.corp.test:8000/')), await as(FIRST, curl('-k', 'https://wiki.corp.test:8443/')),
])
const node = (code: string) => as(FIRST, [process.execPath, '-e', code])
say('node', [
  await node('fetch("http://wiki.corp.test:8000/").then((r) => r.text()).then(console.log)'),
  await node('require("node:dns").lookup("wiki.corp.test", { all: true }, (e, a) => require("node:http").get({ host: "wiki.corp.test", port: 8000, family: 6 }, (r) => r.pipe(process.stdout)))'),
])
say('a server that speaks first', await as(FIRST, ['bash', '-c', 'exec 3<>/dev/tcp/wiki.corp.test/2525; read -u 3 line; echo "$line"; echo "and I answer" >&3; cat <&3']))
const port7000 = ['bash', '-c', 'exec 3<>/dev/tcp/wiki.corp.test/7000; cat <&3']
say('a port that another program has', { first: await as(FIRST, port7000), other: await as(OTHER, port7000), unprotected: await as(FIRST, ['bash', '-c', 'exec 3<>/dev/tcp/wiki.corp.test/7001; cat <&3']) })
say('one of a thousand ports', await as(FIRST, curl('http://wide.corp.test:9500/')))
say('other names', [
  await as(FIRST, curl(`http://${address}:8000/`)), await as(FIRST, curl('-H', 'Host: evil.test', 'http://wiki.corp.test:8000/')), await as(FIRST, curl('-k', `https://${address}:8443/`)),
  await as(FIRST, curl('-k', '--connect-to', 'evil.test:8443:wiki.corp.test:8443', 'https://evil.test:8443/')),
])
const home = mkdtempSync(join(tmpdir(), 'home-'))
run('chown', String(FIRST), home)
const chromium = (url: string, ...flags: string[]) => as(FIRST, ['/usr/bin/chromium', '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', `--user-data-dir=${home}/profile`, ...flags, '--dump-dom', url], { HOME: home })
if (existsSync('/usr/bin/chromium')) {
  say('chromium', await chromium('http://wiki.corp.test:8000/'))
  const before = hits.length
  say('chromium, a page that rebinds its name', { page: await chromium('http://rebind.test:8000/', `--host-resolver-rules=MAP rebind.test ${address}`), hits: hits.slice(before) })
}
const named = asked.filter((question) => /corp\.test/i.test(question))
await as(FIRST, curl('http://other.test/'))
say('questions', { named, other: asked.filter((question) => question.startsWith('other.test')).length > 0, elsewhere: elsewhere() })

// ── addresses ──
const before = { hits: hits.length, opened: await opened() }
say('addresses', { pages: [await as(FIRST, curl('http://10.9.8.7:8000/')), await as(FIRST, curl('http://[fd00:9::7]:8000/'))], opened: await opened() - before.opened })
const direct = { opened: await opened() }
say('direct', { page: await as(FIRST, curl('http://10.200.0.1:8000/')), opened: await opened() - direct.opened })
const other = { opened: await opened() }
say('another user', {
  pac: await as(OTHER, curl(String(tunnel.pacUrl))), pacOfFirst: (await as(FIRST, curl(String(tunnel.pacUrl)))).includes('FindProxyForURL'),
  address: await as(OTHER, curl('http://10.9.8.7:8000/')), name: await as(OTHER, curl('http://wiki.corp.test:8000/')), root: await as(0, curl('http://wiki.corp.test:8000/')),
  opened: await opened() - other.opened, refused: events.filter((event) => event === 'peer_refused').length,
})

const ownPort = Number(/redirect to :(\d+)/.exec(run('nft', 'list', 'table', 'inet', 'sallyport_agent'))?.[1])
say('the port that connections are led to', [await as(FIRST, curl(`http://127.0.0.1:${ownPort}/`)), await as(OTHER, curl('-H', 'Host: wiki.corp.test', `http://127.0.0.1:${ownPort}/`))])

// ── others meddle ──
run('nft', 'delete', 'table', 'inet', 'sallyport_agent')
await until('the table', () => tables().includes('sallyport_agent'))
writeFileSync('/etc/hosts.new', '127.0.0.1 localhost\n10.0.0.1 printer\n')
renameSync('/etc/hosts.new', '/etc/hosts')
await until('the block', () => hostsText().includes('wiki.corp.test') && hostsText().includes('printer'))
say('meddled', { page: await as(FIRST, curl('http://wiki.corp.test:8000/')), address: await as(FIRST, curl('http://10.9.8.7:8000/')) })

// A container's hosts file: a mount of its own, onto which nothing can be renamed.
writeFileSync(join(directory, 'mounted'), '127.0.0.1 localhost\n10.0.0.1 printer\n')
run('mount', '--bind', join(directory, 'mounted'), '/etc/hosts')
settings = { ...settings }
changed()
await until('the block', () => readFileSync(join(directory, 'mounted'), 'utf8').includes('wiki.corp.test'))
// The agent may have it open this moment.
run('umount', '--lazy', '/etc/hosts')

// ── the gate refuses ──
gate.putTags([])
say('refused', { http: await as(FIRST, curl('-w', '%{http_code}', 'http://wiki.corp.test:8000/')), tls: await as(FIRST, curl('-k', 'https://wiki.corp.test:8443/')), address: await as(FIRST, curl('http://10.9.8.7:8000/')) })

if (phase === 'killed') process.kill(process.pid, 'SIGKILL')
settings = { ...settings, tunnel: { transparent: false } }
changed()
await until('the switch', () => tunnel.transparent()?.asked === false)
say('switched off', { hosts: hostsText(), tables: tables(), marker: existsSync(marker), page: await as(FIRST, curl('http://10.9.8.7:8000/')) })
settings = { ...settings, tunnel: { transparent: true } }
changed()
await until('the switch', () => tunnel.transparent()?.asked === true)
await tunnel.close()
say('closed', { hosts: hostsText(), tables: tables(), marker: existsSync(marker) })
process.exit(0)
