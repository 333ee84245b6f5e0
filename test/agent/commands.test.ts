// The agent's commands: what they print, how they end, and what they say when something is wrong. What must end by itself or by a signal is a real process.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmod, readFile, stat, writeFile } from 'node:fs/promises'
import { text } from 'node:stream/consumers'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it } from 'vitest'
import { agentCommand } from '../../agent/command-line.ts'
import { readIdentity } from '../../agent/certificates/identity-store.ts'
import { agentStatus } from '../../agent/local-status.ts'
import { until } from '../../start/steps.ts'
import { closeAll, onEnd, temporaryDirectory } from './agent-under-test.ts'
import { refusal, startEmsDouble, type EmsDouble } from './ems-double.ts'

afterEach(closeAll)
const program = fileURLToPath(new URL('../../agent/main.ts', import.meta.url))
const isRoot = process.getuid?.() === 0
interface Said { code: number | null; out: string; err: string }

function begin(args: string[], as?: number): ChildProcess {
  const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'pipe'], ...(as === undefined ? {} : { uid: as, gid: as }), env: { PATH: process.env.PATH ?? '', HOME: '/nonexistent', SALLYPORT_LOG_LEVEL: 'info' } })
  onEnd(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  })
  return child
}
/** A command in this process. */
async function agent(args: string[]): Promise<Said> {
  const said = { out: '', err: '' }
  const code = await agentCommand(args, { out: (line) => { said.out += `${line}\n` }, err: (line) => { said.err += `${line}\n` } })
  return { code, ...said }
}
/** A command in a process of its own, perhaps of another user. */
async function agentProcess(args: string[], as?: number): Promise<Said> {
  const child = begin(args, as)
  const [out, err] = await Promise.all([text(child.stdout ?? process.stdin), text(child.stderr ?? process.stdin), once(child, 'exit')])
  return { code: child.exitCode, out, err }
}

async function world(): Promise<{ ems: EmsDouble; directory: string; ca: string }> {
  const ems = await startEmsDouble()
  onEnd(() => ems.stop())
  ems.setProfile()
  const home = await temporaryDirectory()
  const ca = join(home, 'ca.pem')
  await writeFile(ca, ems.tlsCa)
  return { ems, directory: join(home, 'state'), ca }
}

describe('the command line', () => {
  it('tells how it is used, with examples, and exits 2 on anything else', async () => {
    const help = await agentProcess(['--help'])
    expect((await agentProcess(['dance'])).code).toBe(2)
    expect(help.code).toBe(0)
    for (const word of ['enrol', 'run', 'status', 'explain', 'set', 'sign-in', 'sign-out', 'ssh', 'ssh-config', 'ssh-certificate', 'connect', '--json', '--state', 'Examples:', 'Exit codes']) expect(help.out).toContain(word)
    const wrong: [string[], RegExp][] = [
      [[], /Say what to do: enrol, run, status, pac, explain, set, sign-in, sign-out, ssh, ssh-config, ssh-certificate, connect/], [['dance'], /dance is no command/], [['status', '--loud'], /loud/], [['status', '--user', 'x'], /status takes no --user/], [['run', 'now'], /"now" is one word too many/],
      [['enrol'], /needs the invitation/], [['explain'], /needs a tag/], [['set'], /needs NAME=VALUE/], [['set', 'name=x'], /not NAME=VALUE/], [['set', 'email=nobody'], /^email: /], [['set', 'avatar=/etc/hostname'], /not a PNG or JPEG/],
      [['enrol', 'sp1.x', '--user', 'nobody-of-that-name'], /no user nobody-of-that-name/], [['__proto__'], /is no command/], [['constructor'], /is no command/],
    ]
    const said = await Promise.all(wrong.map(async ([args]) => await agent([...args])))
    for (const [at, [args, sentence]] of wrong.entries()) {
      expect([args, said[at]?.code, said[at]?.out]).toEqual([args, 2, ''])
      expect(said[at]?.err).toMatch(sentence)
      expect(said[at]?.err).toContain('agent --help')
    }
  })

  it('exits 1 with what happened and what to do next', async () => {
    const { ems, directory, ca } = await world()
    const state = ['--state', directory]
    const [none, damaged] = await Promise.all([agent(['status', ...state]), agent(['enrol', 'sp1.eyJh', ...state])])
    const [untrusted, notStarted] = [await agent(['enrol', ems.invitation, ...state]), await agentProcess(['run', ...state])]
    expect(none).toMatchObject({ code: 1, out: '', err: expect.stringMatching(/Nothing is enrolled.*agent enrol INVITATION --state.*SALLYPORT_STATE/) as string })
    expect(damaged).toMatchObject({ code: 1, err: expect.stringMatching(/not an invitation.*Copy it again/) as string })
    expect(untrusted).toMatchObject({ code: 1, err: expect.stringMatching(/not reached.*--tls-ca FILE/) as string })
    expect(notStarted).toMatchObject({ code: 1, err: expect.stringMatching(/not enrolled; ask an administrator/) as string })
    ems.instead.set('enrol', () => refusal('invitation_refused'))
    const refused = await agent(['enrol', ems.invitation, ...state, '--tls-ca', ca])
    expect(refused).toMatchObject({ code: 1, err: expect.stringMatching(/Ask an administrator for a new invitation/) as string })
    await ems.stop()
    expect(await agent(['enrol', ems.invitation, ...state, '--tls-ca', ca])).toMatchObject({ code: 1, err: expect.stringMatching(/ECONNREFUSED\. Check the network and that the EMS runs, then try again/) as string })
    await ems.start()
    expect(await agent(['enrol', ems.invitation, ...state, '--tls-ca', '/nonexistent/ca.pem'])).toMatchObject({ code: 1, err: expect.stringMatching(/\/nonexistent\/ca\.pem/) as string })
  })

  it('enrols, runs, answers, keeps what is said, ends at SIGTERM, and leaves by itself when it is deregistered', async () => {
    const { ems, directory, ca } = await world()
    const state = ['--state', directory]
    const enrolled = await agent(['enrol', ems.invitation, ...state, '--tls-ca', ca])
    expect(enrolled).toMatchObject({ code: 0, err: '', out: expect.stringMatching(/^Enrolled with https:\/\/localhost:\d+ as [0-9a-f]{32}\. The local proxy will serve user id \d+ only.*\nNow start the agent: agent run --state/) as string })
    expect(await agent(['enrol', ems.invitation, ...state, '--tls-ca', ca])).toMatchObject({ code: 1, err: expect.stringMatching(/enrolled already, as [0-9a-f]{32}.*only an administrator/) as string })
    expect(await agent(['status', ...state])).toMatchObject({ code: 1, err: expect.stringMatching(/No agent runs.*agent run --state \S+\n$/) as string })

    const first = begin(['run', ...state])
    let log = ''
    first.stderr?.on('data', (chunk: Buffer) => { log += chunk.toString() })
    await until('the channel', () => Promise.resolve(ems.sockets.length > 0 ? true : null))
    const [second, shown, json, unknown, kept] = await Promise.all([agentProcess(['run', ...state]), agent(['status', ...state]), agent(['status', '--json', ...state]), agent(['explain', 'no-such-tag', ...state]), agent(['set', 'email=ada@example.com', 'social=github:ada', ...state])])
    expect(second).toMatchObject({ code: 1, err: expect.stringMatching(/running already.*Stop it first/) as string })
    expect(shown).toMatchObject({ code: 0, err: '', out: expect.stringMatching(/^machine +[0-9a-f]{32}, managed by https:.*\nsigned in +nobody is signed in \(agent sign-in\)\nprofile +profile, by the policy "everybody"\n/) as string })
    expect(agentStatus.parse(JSON.parse(json.out)).channel).toBe('open')
    expect(unknown).toMatchObject({ code: 1, err: expect.stringMatching(/Nothing is known under "no-such-tag"/) as string })
    expect(kept).toMatchObject({ code: 0, out: expect.stringMatching(/^Kept\./) as string })
    await until('the report of what was said', () => Promise.resolve(JSON.stringify(ems.held.get('user')?.value).includes('ada@example.com') ? true : null))

    first.kill('SIGTERM')
    expect(await once(first, 'exit')).toEqual([0, null])
    // Every part ended by itself; none was given up on after its ten seconds.
    expect(log).toContain('"event":"channel"')
    expect(log).not.toContain('not-closed')

    const third = begin(['run', ...state])
    await until('the channel again', () => Promise.resolve(ems.sockets.length > 1 ? true : null))
    ems.sockets.at(-1)?.tell({ type: 'document', kind: 'deregistration', document: await ems.signDeregistration('sold') })
    expect(await once(third, 'exit')).toEqual([0, null])
    expect(await agent(['status', ...state])).toMatchObject({ code: 1, err: expect.stringMatching(/deregistered on .* \("sold"\)\. Ask an administrator/) as string })
    expect(await agentProcess(['run', ...state])).toMatchObject({ code: 1, err: expect.stringMatching(/deregistered on .* \("sold"\)/) as string })
    // What the user said of themselves is theirs; all else is gone, and the machine can be enrolled anew.
    expect(JSON.parse(await readFile(join(directory, 'user.json'), 'utf8'))).toEqual({ email: 'ada@example.com', socialIds: [{ service: 'github', accountId: 'ada' }] })
    expect((await agent(['enrol', ems.invitation, ...state, '--tls-ca', ca])).code).toBe(0)
  }, 180_000)

  it('ends at SIGTERM while the EMS is away, and while it is still starting', async () => {
    const { ems, directory, ca } = await world()
    expect((await agent(['enrol', ems.invitation, '--state', directory, '--tls-ca', ca])).code).toBe(0)
    await ems.stop()
    const away = begin(['run', '--state', directory])
    let log = ''
    away.stderr?.on('data', (chunk: Buffer) => { log += chunk.toString() })
    await until('a failed report', () => Promise.resolve(log.includes('report-failed') ? true : null))
    away.kill('SIGTERM')
    expect(await once(away, 'exit')).toEqual([0, null])
    const starting = begin(['run', '--state', directory])
    let begun = ''
    starting.stderr?.on('data', (chunk: Buffer) => { begun += chunk.toString() })
    await until('the first line', () => Promise.resolve(begun === '' ? null : true), 60_000, 1)
    starting.kill('SIGTERM')
    expect(await once(starting, 'exit')).toEqual([0, null])
  })

  it('answers the enrolled user and root; another user of the machine is told nothing but what to do', async ({ skip }) => {
    if (!isRoot) return skip('needs root to act as another user')
    const [owner, stranger] = [65_534, 65_533]
    const { ems, directory, ca } = await world()
    expect((await agent(['enrol', ems.invitation, '--state', directory, '--tls-ca', ca, '--user', 'nobody'])).out).toMatch(/serve user id 65534 only/)
    expect((await readIdentity(directory))?.ownerUid).toBe(owner)
    begin(['run', '--state', directory])
    await until('the channel', () => Promise.resolve(ems.sockets.length > 0 ? true : null))
    // The way to the state is open to everybody; the state is not.
    await chmod(join(directory, '..'), 0o755)
    expect((await stat(directory)).mode & 0o777).toBe(0o711)
    for (const open of [0o711, 0o755]) {
      await chmod(directory, open)
      for (const args of [['status'], ['sign-in', '--no-browser'], ['sign-out'], ['set', 'email=a@b.cd'], ['run']]) {
        const said = await agentProcess([...args, '--state', directory], stranger)
        expect([args, said.code, said.out]).toEqual([args, 1, ''])
        expect(said.err).toMatch(/this account may not\. Run it as|belongs to another account|can not be written/)
      }
      expect(await agentProcess(['status', '--state', directory], owner)).toMatchObject({ code: 0, err: '', out: expect.stringContaining('nobody is signed in') as string })
      expect((await agentProcess(['status', '--state', directory])).code).toBe(0)
      expect(await agentProcess(['connect', 'wiki.corp.test:22', '--state', directory])).toMatchObject({ code: 1, out: '', err: expect.stringMatching(/serves user id 65534 only.*this is user id 0/) as string })
      for (const uid of [owner, stranger]) {
        for (const name of ['identity.json', 'identity.copy.json', 'documents.json', 'telemetry.json', 'lock', 'status.sock', 'pac.path']) {
          const path = join(directory, name)
          expect(() => execFileSync('setpriv', [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', 'cat', path], { stdio: 'pipe' }), name).toThrow(/Permission denied|No such device/)
        }
      }
    }
    expect([ems.count('begin-sign-in'), ems.count('sign-out')]).toEqual([0, 0])
  }, 180_000)
})
