// SSH through the agent: the system's own ssh, a real gateway with its SSH CA, a real sshd that trusts it.
import { once } from 'node:events'
import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it } from 'vitest'
import { agentCommand } from '../../../agent/command-line.ts'
import { hasOpenSsh } from '../../gateway/ssh/sshd-under-test.ts'
import { closeAll } from '../agent-under-test.ts'
import { ADA, ended, HOST, login, sshScene, userOf, type SshScene } from './ssh-scene.ts'

afterEach(closeAll)
const at = `${login}@${HOST}`
const left = ({ home }: SshScene) => readdir(join(home, 'tmp'))

describe.skipIf(!hasOpenSsh)('agent ssh (needs sshd, ssh and ssh-keygen, as root or with /run/sshd)', { timeout: 240_000 }, () => {
  it('comes in with a certificate of its own to the host that the gateway knows, passes the exit code on, and leaves nothing', async () => {
    const scene = await sshScene()
    expect(await scene.run('ssh', at, '--', 'echo inside; exit 7')).toEqual({ code: 7, out: 'inside\n', err: '' })
    expect(await scene.run('ssh', `${at}:2222`, '--', '-q', 'echo', 'again')).toEqual({ code: 0, out: 'again\n', err: '' })
    expect(scene.host.log()).toMatch(new RegExp(`Accepted publickey for ${login} .* ED25519-CERT .* ID uid=\\w+ user=${ADA}`))
    expect(await left(scene)).toEqual([])
    const kept = await readdir(scene.home)
    expect(kept).toEqual(['tmp'])
  })

  it('carries much, whole, both ways', async () => {
    const scene = await sshScene()
    expect(await scene.run('ssh', at, '--', 'head -c 40000000 /dev/zero | tr "\\0" x')).toMatchObject({ code: 0, out: 'x'.repeat(40_000_000), err: '' })
    const child = scene.begin('ssh', at, '--', 'wc -c')
    child.stdin?.end(Buffer.alloc(40_000_000))
    expect(await ended(child)).toEqual({ code: 0, out: '40000000\n', err: '' })
  })

  it('gives ssh what it needs and nothing that a person did not say', async () => {
    const scene = await sshScene('{principal: email-name, emailDomains: [corp.test], hostKeys: ["KEY"]}')
    const configured = async (...words: string[]) => Object.fromEntries((await scene.run('ssh', ...words, '--', '-G')).out.split('\n').map((line): [string, string] => [line.slice(0, line.indexOf(' ')), line.slice(line.indexOf(' ') + 1)]))
    expect(await configured(HOST)).toMatchObject({ user: 'ada', hostname: HOST, port: '22', stricthostkeychecking: 'true', identitiesonly: 'yes', globalknownhostsfile: '/dev/null', updatehostkeys: 'false' })
    expect(await configured(`grace@${HOST}:2222`)).toMatchObject({ user: 'grace', port: '2222' })
  })

  it('leaves the way of ssh with unknown hosts where the gateway was told no keys, and names that are e-mails', async () => {
    const scene = await sshScene('{}')
    const { out } = await scene.run('ssh', HOST, '--', '-G')
    expect(out).toMatch(/^stricthostkeychecking ask$/m)
    expect(out).toMatch(new RegExp(`^user ${login}$`, 'm'))
    const known = join(scene.home, 'known')
    expect(await scene.run('ssh', at, '--', '-oBatchMode=yes', `-oUserKnownHostsFile=${known}`, 'echo in')).toMatchObject({ code: 255, out: '', err: expect.stringContaining('Host key verification failed') as string })
    expect(await scene.run('ssh', at, '--', '-oStrictHostKeyChecking=accept-new', `-oUserKnownHostsFile=${known}`, 'echo in')).toMatchObject({ code: 0, out: 'in\n' })
    expect(await scene.run('ssh', `grace@${HOST}`, '--', '-oBatchMode=yes', `-oUserKnownHostsFile=${known}`, 'echo in')).toMatchObject({ code: 255, out: '', err: expect.stringMatching(/Permission denied[^]*The certificate names .*; whether that may log in as grace is for the host to say/) as string })
  })

  it('says why not, and what to do: nobody is signed in, somebody else is, a tag is missing, no gateway leads there', async () => {
    const scene = await sshScene('{principal: email-name, emailDomains: [corp.test], hostKeys: ["KEY"]}')
    const hint = (reason: string) => expect.stringMatching(new RegExp(`Sign in.*agent sign-in[^]*${reason}`)) as string
    scene.vouch(null)
    expect(await scene.run('ssh', at, '--', 'echo in')).toEqual({ code: 1, out: '', err: hint('user-unverified') })
    scene.vouch(userOf('eve@elsewhere.test'))
    expect(await scene.run('ssh', at, '--', 'echo in')).toEqual({ code: 1, out: '', err: hint('user-mismatch') })
    scene.vouch(userOf(ADA), [])
    expect(await scene.run('ssh', at, '--', 'echo in')).toMatchObject({ code: 1, out: '', err: expect.stringContaining('tag-missing') as string })
    expect(await scene.run('ssh', `${login}@example.com`, '--', 'echo in')).toMatchObject({ code: 1, out: '', err: expect.stringMatching(/example\.com:22 is behind no gateway.*plain ssh/) as string })
    expect((await scene.run('status')).out).toMatch(/host\.test:22.*\n +Sign in as a user who may: agent sign-in/)
    expect(await left(scene)).toEqual([])
    expect(scene.host.log()).not.toContain('Accepted')
  })

  it('leaves nothing when it is ended by a signal', async () => {
    const scene = await sshScene()
    for (const signal of ['SIGTERM', 'SIGHUP', 'SIGINT'] as const) {
      const child = scene.begin('ssh', at, '--', 'echo in; exec sleep 1000')
      await once(child.stdout ?? child, 'data')
      expect(await left(scene)).toHaveLength(1)
      const [room = ''] = await left(scene)
      expect((await stat(join(scene.home, 'tmp', room))).mode & 0o777).toBe(0o700)
      child.kill(signal)
      const [code] = await once(child, 'exit') as [number | null]
      expect(code).toBeGreaterThan(127)
      expect(await left(scene)).toEqual([])
    }
  })

  it('takes no word for a host, user or port that another program would take for something else', async () => {
    const hostile = ['-oProxyCommand=touch pwned', '--', `${login}@-oProxyCommand=x`, 'host test', 'a;b', '$(touch x)', '`x`', 'a\'b', 'a"b', '%h', `%r@${HOST}`, `-l@${HOST}`, `a b@${HOST}`, `${HOST}:ssh`, `${HOST}:0`, `${HOST}:70000`, `${HOST}:22:22`, '[::1', 'a\nb', '../x', '', '@', `@${HOST}`, 'ssh://host.test']
    for (const word of hostile) {
      for (const verb of ['ssh', 'connect', 'ssh-certificate']) {
        const said: string[] = []
        // Where nothing is enrolled: read to the end, it would end with 1.
        expect([verb, word, await agentCommand([verb, '--state', '/nonexistent', '--', word], { out: (line) => said.push(line), err: () => undefined }), said]).toEqual([verb, word, 2, []])
      }
    }
    expect(await agentCommand(['ssh-certificate', '--state', '/nonexistent', '--', '[fd00::1]:22'], { out: () => undefined, err: () => undefined })).toBe(1)
  })
})

describe.skipIf(!hasOpenSsh)('agent connect', { timeout: 240_000 }, () => {
  it('carries both ways, each to its own end', async () => {
    const scene = await sshScene()
    const child = scene.begin('connect', 'echo.test:7')
    child.stdin?.write('hello')
    expect(String((await once(child.stdout ?? child, 'data') as [Buffer])[0])).toBe('hello')
    child.stdin?.end()
    expect(await ended(child)).toEqual({ code: 0, out: 'bye', err: '' })
  })

  it('ends with 1 and the gateway\'s word where it refuses, at first or later', async () => {
    const scene = await sshScene()
    const open = scene.begin('connect', 'echo.test', '7')
    open.stdin?.write('hello')
    await once(open.stdout ?? open, 'data')
    scene.vouch(null, [])
    expect(await ended(open)).toMatchObject({ code: 1, err: expect.stringMatching(/was cut.*agent status says why/) as string })
    expect(await scene.run('connect', 'echo.test:7')).toMatchObject({ code: 1, out: '', err: expect.stringMatching(/tag-missing, decision D/) as string })
    expect(await scene.run('connect', 'other.test:7')).toMatchObject({ code: 1, out: '', err: expect.stringContaining('service-unknown') as string })
    expect(await scene.run('connect', '127.0.0.1:1')).toMatchObject({ code: 1, out: '', err: expect.stringContaining('ECONNREFUSED') as string })
    expect((await scene.run('connect', 'echo.test')).code).toBe(2)
  })
})

describe.skipIf(!hasOpenSsh)('agent ssh-config', { timeout: 240_000 }, () => {
  async function configured(part?: string, ...patterns: string[]) {
    const scene = await sshScene(part)
    const config = join(scene.home, 'config')
    const { out, code, err } = await scene.run('ssh-config', ...patterns)
    expect([code, err]).toEqual([0, ''])
    await writeFile(config, out)
    const kept = join(scene.home, '.ssh', 'sallyport')
    return { scene, config, kept, ssh: (...args: string[]) => scene.program('ssh', ['-F', config, '-oBatchMode=yes', '-oConnectTimeout=20', ...args]) }
  }

  it('lets plain ssh, scp and git in, with a certificate that is kept and renewed', async () => {
    const { scene, config, kept, ssh } = await configured(undefined, '*.test')
    expect(await ssh(at, 'echo inside')).toEqual({ code: 0, out: 'inside\n', err: '' })
    expect((await readdir(kept)).sort()).toEqual(['host.test_22', 'host.test_22-cert.pub', 'host.test_22.json', 'host.test_22.known_hosts'])
    expect((await stat(join(kept, 'host.test_22'))).mode & 0o777).toBe(0o600)
    const first = await readFile(join(kept, 'host.test_22-cert.pub'), 'utf8')
    await writeFile(join(scene.home, 'file'), 'carried')
    expect(await scene.program('scp', ['-q', '-F', config, join(scene.home, 'file'), `${at}:${join(scene.home, 'copy')}`])).toMatchObject({ code: 0 })
    expect(await readFile(join(scene.home, 'copy'), 'utf8')).toBe('carried')
    await scene.program('git', ['init', '-q', '--bare', join(scene.home, 'repository')])
    expect(await scene.program('git', ['ls-remote', `ssh://${at}:2222${join(scene.home, 'repository')}`], { GIT_SSH_COMMAND: `ssh -F ${config} -oBatchMode=yes` })).toMatchObject({ code: 0 })
    expect(await readFile(join(kept, 'host.test_22-cert.pub'), 'utf8')).toBe(first)
    // Two thirds of its life are over.
    const about = join(kept, 'host.test_22.json')
    const { from, until } = JSON.parse(await readFile(about, 'utf8')) as { from: number; until: number }
    await writeFile(about, JSON.stringify({ from: from - 220_000, until: until - 220_000 }))
    expect((await ssh(at, 'echo again')).code).toBe(0)
    expect(await readFile(join(kept, 'host.test_22-cert.pub'), 'utf8')).not.toBe(first)
    expect(JSON.parse((await scene.run('ssh-certificate', HOST, '--json')).out)).toEqual({ certificate: join(kept, 'host.test_22-cert.pub'), renewed: false })
  })

  it('lets nobody in whom nobody vouches for, says why, and keeps nothing then', async () => {
    const { scene, kept, ssh } = await configured()
    expect((await ssh(at, 'echo inside')).code).toBe(0)
    await writeFile(join(kept, 'host.test_22.json'), JSON.stringify({ from: 0, until: 1 }))
    scene.vouch(null)
    expect(await ssh(at, 'echo inside')).toMatchObject({ code: 255, out: '', err: expect.stringMatching(/agent sign-in/) as string })
    expect(await readdir(kept)).toEqual([])
    expect(await scene.run('ssh-certificate', HOST)).toMatchObject({ code: 1, err: expect.stringContaining('agent sign-in') as string })
    scene.vouch(userOf(ADA))
    expect((await ssh(at, 'echo inside')).code).toBe(0)
    scene.agent.ems.instead.set('sign-out', () => ({ json: { ok: true } }))
    expect((await scene.run('sign-out')).code).toBe(0)
    expect(await readdir(kept)).toEqual([])
  })

  it('leaves other hosts alone, and runs nothing that the name of a host says', async () => {
    const { scene, ssh } = await configured()
    expect((await ssh('-G', 'example.com')).out).not.toContain('proxycommand')
    expect((await ssh('-G', HOST)).out).toMatch(/^proxycommand .* connect /m)
    expect((await scene.run('ssh-certificate', 'example.com', '--match'))).toEqual({ code: 1, out: '', err: '' })
    const marker = join(scene.home, 'pwned')
    for (const name of [`$(touch ${marker})`, `\`touch ${marker}\``, `';touch ${marker};'`, `x' && touch ${marker} && '`, `";touch ${marker};"`, `\\';touch ${marker};\\'`, `-oProxyCommand=touch ${marker}`, `a\ntouch ${marker}`]) await ssh('-G', '--', name)
    expect(await readdir(scene.home)).not.toContain('pwned')
    expect(await scene.run('ssh-config', '*.x"')).toMatchObject({ code: 2 })
  })

  it('works from a place whose name is awkward', async () => {
    const { scene, ssh } = await configured()
    expect((await ssh(at, 'echo inside')).code).toBe(0)
    const odd = join(scene.home, 'at 50% odd')
    const blockOf = (state: string) => scene.program(process.execPath, [fileURLToPath(new URL('../../../agent/main.ts', import.meta.url)), 'ssh-config', '--state', state])
    const block = await blockOf(odd)
    expect(block.err).toContain(`No agent runs with the state in ${odd} now`)
    await writeFile(join(scene.home, 'odd-config'), block.out)
    // No agent runs there: what ssh says shows that the words have come through as they were.
    expect((await scene.program('ssh', ['-F', join(scene.home, 'odd-config'), '-G', 'other.test'])).err).toContain(`Nothing is enrolled with the state in ${odd}.`)
    for (const quoted of ['it\'s', 'a"b', 'a\\b']) expect(await blockOf(join(scene.home, quoted))).toMatchObject({ code: 1, out: '', err: expect.stringContaining('can not hold a path with quotes') as string })
  })
})
