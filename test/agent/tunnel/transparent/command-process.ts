// The agent as its user runs it on a machine of its own (a network and a mount namespace): enrolled for one user, run by root with
// --transparent, killed, and ended. It prints what it saw, a JSON line a step; machine.test.ts judges.
import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { until } from '../../../../start/steps.ts'
import { startEmsDouble } from '../../ems-double.ts'

const FIRST = 1234
const [directory = ''] = process.argv.slice(2)
const program = fileURLToPath(new URL('../../../../agent/main.ts', import.meta.url))
const state = join(directory, 'state')
const run = (file: string, ...args: string[]) => execFileSync(file, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
const say = (step: string, value: unknown): void => void process.stdout.write(`${JSON.stringify({ step, value })}\n`)
const machine = () => ({ hosts: readFileSync('/etc/hosts', 'utf8'), tables: run('nft', 'list', 'tables').trim() })
const command = (file: string, args: string[]): Promise<string> => new Promise((resolve) => {
  execFile(file, args, { cwd: '/', timeout: 60_000, env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: directory } }, (error, stdout) => resolve(error === null ? stdout : `failed ${String(error.code)} ${stdout}`))
})
const agent = (...args: string[]) => command(process.execPath, [program, ...args, '--state', state])
const curlAs = (uid: number, url: string) => command('setpriv', [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', 'curl', '-sS', '--max-time', '30', '--noproxy', '*', url])

// Browsers' policies come and go meanwhile, by other tests.
cpSync('/etc', join(directory, 'etc'), { recursive: true, verbatimSymlinks: true, filter: (path) => !/^\/etc\/(chromium\/policies|firefox|opt)$/.test(path) })
run('mount', '--bind', join(directory, 'etc'), '/etc')
writeFileSync('/etc/hosts', '127.0.0.1 localhost\n')
appendFileSync('/etc/passwd', `first:x:${FIRST}:${FIRST}:First:/nonexistent:/bin/sh\n`)
run('ip', 'link', 'set', 'lo', 'up')

const ems = await startEmsDouble()
const gateway = 'SPGW0123456789AB'
ems.setProfile({ destinations: [{ match: 'wiki.corp.test', ports: [8000], gateway }, { match: '10.9.0.0/16', ports: [8000], gateway }] })
const ca = join(directory, 'tls-ca.pem')
writeFileSync(ca, ems.tlsCa)
say('enrolled', await agent('enrol', ems.invitation, '--user', 'first', '--tls-ca', ca))

async function start(...args: string[]): Promise<ChildProcess> {
  const child = spawn(process.execPath, [program, 'run', ...args, '--state', state], { stdio: 'ignore', env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: directory } })
  await until('the agent\'s answer', async () => (await agent('pac')).startsWith('http') || null, 90_000, 100)
  return child
}
async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  const ended = once(child, 'exit')
  child.kill(signal)
  await ended
}

const first = await start('--transparent')
say('running', { ...machine(), status: JSON.parse(await agent('status', '--json')) as unknown, text: await agent('status') })
say('asked', { first: await curlAs(FIRST, 'http://wiki.corp.test:8000/'), other: await curlAs(4321, 'http://wiki.corp.test:8000/'), root: await curlAs(0, 'http://wiki.corp.test:8000/') })
await end(first, 'SIGKILL')
say('killed', machine())
const second = await start('--transparent')
const between = machine()
await end(second, 'SIGTERM')
say('ended', { between, after: machine(), code: second.exitCode })
process.exit(0)
