// The agent as a whole: it starts, reports, is idle, recovers what it lost, and lets go.
import { readdir, readFile, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { readIdentity } from '../../agent/certificates/identity-store.ts'
import { startAgent } from '../../agent/start.ts'
import { silentLog } from '../../node/logging.ts'
import { writePrivateFile } from '../../node/key-store.ts'
import { closeAll, enrolledScene, happened, onEnd, reported, temporaryDirectory } from './agent-under-test.ts'
import { refusal, UID } from './ems-double.ts'
import { manualTimers } from './manual-timers.ts'
import { serveTcp } from './tunnel/tunnel-under-test.ts'

afterEach(closeAll)

describe('a running agent', () => {
  it('reports what it sees, and after a restart only hashes', async () => {
    const scene = await enrolledScene()
    const first = await scene.start()
    await reported(scene)
    // Whether there are updates to tell of, and a virus scanner, depends on the machine that runs this.
    expect([...scene.ems.held.keys()].filter((name) => name !== 'updates' && name !== 'antivirus').sort()).toEqual(['agent', 'directory', 'hardware', 'network', 'os', 'security', 'user', 'verdicts'])
    await first.close()
    expect(await first.ended).toBe('closed')
    const before = scene.ems.requests.length
    await scene.start()
    await happened('the channel', () => scene.ems.sockets.length > 1)
    await happened('a report after it', () => scene.ems.requests.slice(before).filter(({ id }) => id === 'report').length >= 2)
    // Addresses come and go by themselves.
    expect(scene.ems.requests.slice(before).filter(({ id }) => id === 'report').flatMap(({ body }) => Object.keys(body.sections as object)).filter((name) => name !== 'network')).toEqual([])
    expect(scene.ems.count('put-avatar')).toBe(0)
  })

  it('starts while the EMS is away, and reports when it is back', async () => {
    const scene = await enrolledScene()
    await scene.ems.stop()
    const agent = await scene.start()
    await happened('a failed report', () => scene.lines.find(({ event }) => event === 'report-failed'))
    const status = await agent.status()
    expect(status.tags).toBeNull()
    expect(status.troubles.map(({ kind }) => kind)).toEqual(['ems'])
    expect(status.troubles[0]?.sentence).toMatch(/was not reached.*Check the network/)
    expect(agent.tunnel().running).toBe(true)
    await scene.ems.start()
    await reported(scene)
    await happened('no trouble', () => scene.lines.find(({ event }) => event === 'trouble-over'))
    expect((await agent.status()).troubles).toEqual([])
  })

  it('lets go of everything when it is deregistered: certificate, key, documents, proxy, open tunnels', async () => {
    const scene = await enrolledScene()
    const agent = await scene.start()
    await reported(scene)
    const socket = await happened('the channel', () => scene.ems.sockets[0])
    const port = await serveTcp((far) => far.write('hello'))
    const tunnel = agent.tunnel()
    if (!tunnel.running) throw new Error(tunnel.reason)
    const open = connect(tunnel.httpPort, '127.0.0.1')
    onEnd(() => Promise.resolve(open.destroy()))
    const closed = new Promise<void>((resolve) => { open.on('error', () => undefined).on('close', () => resolve()) })
    let heard = ''
    open.on('data', (chunk: Buffer) => { heard += chunk.toString() })
    open.write(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: x\r\n\r\n`)
    await happened('the open tunnel', () => heard.endsWith('hello'))
    // What a crash may have left of the key goes too.
    await writePrivateFile(join(scene.directory, 'identity.json.0123456789ab.tmp'), await readFile(join(scene.directory, 'identity.json')))
    await writePrivateFile(join(scene.directory, 'enrolling-0123456789abcdef.key'), 'key')
    socket.tell({ type: 'document', kind: 'deregistration', document: await scene.ems.signDeregistration() })
    expect(await agent.ended).toBe('deregistered')
    await closed
    expect(await readdir(scene.directory)).toEqual(['deregistered.json', 'lock'])
    expect(scene.told('let-go')).toEqual([{ event: 'let-go', reason: 'left' }])
    await expect(scene.start()).rejects.toThrow(/deregistered on .* \("left"\).*enrol INVITATION/)
  })

  it('lets go when a report is refused because it was deregistered while it was away', async () => {
    const scene = await enrolledScene()
    scene.ems.registered = false
    const agent = await scene.start()
    expect(await agent.ended).toBe('deregistered')
    expect(await readdir(scene.directory)).toEqual(['deregistered.json', 'lock'])
  })

  it('lets go though its documents are lost: the CA is proved anew by the pin of the enrolment', async () => {
    const scene = await enrolledScene()
    await rm(join(scene.directory, 'documents.json'))
    scene.ems.registered = false
    expect(await (await scene.start()).ended).toBe('deregistered')
  })

  it('does not let go on a word that the EMS did not sign', async () => {
    const scene = await enrolledScene()
    const stranger = await enrolledScene()
    scene.ems.instead.set('report', async () => refusal('deregistered', { document: await stranger.ems.signDeregistration() }))
    const agent = await scene.start()
    await happened('the refusal', () => scene.lines.find(({ event, reason }) => event === 'document-refused' && reason === 'foreign'))
    scene.ems.instead.set('report', () => refusal('deregistered'))
    await happened('another refusal', () => scene.lines.filter(({ event }) => event === 'report-failed').length > 1)
    expect((await readIdentity(scene.directory))?.uid).toBe(UID)
    expect((await agent.status()).troubles.map(({ kind }) => kind)).toContain('ems')
    scene.ems.instead.delete('report')
    await agent.checkNow()
    await reported(scene)
  })

  it('recovers its documents when their file is lost', async () => {
    const scene = await enrolledScene()
    await rm(join(scene.directory, 'documents.json'))
    const agent = await scene.start()
    await happened('the last of them', () => scene.told('document-applied').find(({ kind }) => kind === 'licence'))
    expect(new Set(scene.told('document-applied').map(({ kind }) => kind))).toEqual(new Set(['authorities', 'profile', 'rules', 'licence']))
    await happened('the proxy', () => agent.tunnel().running)
  })

  it('says of a damaged state file which it is and what to do', async () => {
    const scene = await enrolledScene()
    for (const name of ['documents.json', 'telemetry.json', 'identity.json']) {
      const path = join(scene.directory, name)
      const before = await readFile(path, 'utf8').catch(() => null)
      await writePrivateFile(path, '{"half": ')
      // With its copy it would be put back; the first start makes one.
      await rm(join(scene.directory, 'identity.copy.json'), { force: true })
      await expect(scene.start()).rejects.toThrow(`${path} is damaged; move it away`)
      await (before === null ? rm(path) : writePrivateFile(path, before))
    }
    const path = join(scene.directory, 'identity.json')
    const identity = JSON.parse(await readFile(path, 'utf8')) as object
    await writePrivateFile(path, JSON.stringify({ ...identity, privateKeyPem: 'none' }))
    await rm(join(scene.directory, 'identity.copy.json'), { force: true })
    await expect(scene.start()).rejects.toThrow(/identity\.json is damaged: its key can not be read\. Move it away and enrol/)
    await writePrivateFile(path, JSON.stringify(identity))
    await (await scene.start()).close()
  })

  it('refuses to run twice with one state directory, and leaves the first alone', async () => {
    const scene = await enrolledScene()
    const agent = await scene.start()
    await expect(scene.start()).rejects.toThrow(/running already.*Stop it first/)
    expect((await agent.status()).uid).toBe(UID)
    await agent.close()
    const both = await Promise.allSettled([scene.start(), scene.start()])
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
  })

  it('spawns and sends nothing in an idle hour beyond its cadences: one look at the firewall a minute, one inventory, one ping a minute', async () => {
    const scene = await enrolledScene()
    const commands: string[] = []
    const timers = manualTimers()
    const agent = await scene.start({ timers, command: (file) => { commands.push(file); return Promise.resolve(null) } })
    await reported(scene)
    const { socket } = await happened('the channel', () => scene.ems.sockets[0])
    // No tool answers them, which is told when they have looked.
    await happened('the slow probes', () => ['software', 'vulnerabilities'].every((section) => scene.ems.requests.some(({ body }) => (body.unknown as string[] | undefined)?.includes(section) === true)))
    let [pings, quiet] = [0, 0]
    socket.on('message', (data: Buffer) => { if (data.toString() === 'ping') pings++ })
    /** The agent has read whatever it was sent before. */
    const isRead = () => new Promise<void>((resolve) => {
      socket.once('pong', () => { resolve() })
      socket.ping()
    })
    let asked = -1
    await happened('quiet', () => {
      quiet = asked === scene.ems.requests.length ? quiet + 1 : 0
      asked = scene.ems.requests.length
      return quiet > 20
    })
    commands.length = 0
    for (let minute = 0; minute < 60; minute++) {
      await timers.advance(60_000)
      // Each is answered, and the answer read, before time goes on: else the channel would be given up.
      await happened('a ping', () => pings > minute)
      await isRead()
      await timers.advance(0)
    }
    const ran = (name: string) => commands.filter((each) => each === name).length
    // The last look of the hour begins with it and reads files first.
    await happened('the inventory', () => ran('dpkg-query') > 0)
    // None of them answers here, so that nothing is kept: a machine whose tools answer runs fewer.
    const everyMinute = ['nft', 'iptables-save', 'apt-config', 'lsattr']
    // Addresses come and go by themselves.
    const requests = scene.ems.requests.slice(asked).filter(({ body }) => Object.keys(body.sections ?? {}).join() !== 'network').map(({ id }) => id)
    expect({ requests, dpkg: ran('dpkg-query'), others: commands.filter((each) => ![...everyMinute, 'dpkg-query', 'rpm', 'apk', 'apt-get', 'id'].includes(each)) })
      .toEqual({ requests: [], dpkg: 1, others: [] })
    expect(everyMinute.filter((name) => ran(name) > 60)).toEqual([])
    // A look begins a cadence after the last one ended, and on a busy machine this hour passes faster than a look.
    expect(ran('nft')).toBeGreaterThan(10)
    expect(ran('nft')).toBeLessThanOrEqual(60)
    expect(pings).toBeLessThanOrEqual(60)
    await agent.close()
  }, 180_000)

  it('starts nothing where nothing is enrolled', async () => {
    const directory = await temporaryDirectory()
    await expect(startAgent({ stateDirectory: join(directory, 'state'), log: silentLog(), now: Date.now })).rejects.toThrow(/not enrolled; ask an administrator/)
  })
})
