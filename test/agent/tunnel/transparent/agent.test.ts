// The whole agent in transparent mode: what it tells, and that a machine which is let go is as it was.
import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { agentCommand } from '../../../../agent/command-line.ts'
import { noteLetGo } from '../../../../agent/certificates/identity-store.ts'
import { addressesOf } from '../../../../agent/tunnel/transparent/loopback-addresses.ts'
import { closeAll, enrolledScene, happened, temporaryDirectory } from '../../agent-under-test.ts'

afterEach(closeAll)
const NAME = 'wiki.corp.test'
const gateway = 'SPGW0123456789AB'
const HOSTS = '127.0.0.1 localhost\n'

/** A port that nobody has on the address of the name. */
async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, addressesOf([NAME]).get(NAME), resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
async function machine() {
  const root = await temporaryDirectory()
  await mkdir(join(root, 'etc'))
  const hosts = join(root, 'etc/hosts')
  await writeFile(hosts, HOSTS)
  const port = await freePort()
  const scene = await enrolledScene((ems) => ems.setProfile({ destinations: [{ match: NAME, ports: [port], gateway }, { match: 'localhost', ports: [1], gateway }, { match: '10.0.0.0/8', ports: [22], gateway }] }))
  return { root, hosts, scene, text: () => readFile(hosts, 'utf8') }
}

describe.skipIf(process.platform !== 'linux')('an agent that is asked for transparent mode (needs Linux)', () => {
  it('tells what is had and what not and why, shows its PAC file, and leaves nothing behind when it is deregistered', async () => {
    const { root, scene, text } = await machine()
    const agent = await scene.start({ root, transparent: true })
    const status = await happened('the mode', async () => {
      const told = await agent.status()
      return told.transparent?.served.includes(NAME) === true ? told : null
    })
    // The enrolled user of this scene is the account that runs the test, as which the agent runs too.
    expect(status.transparent?.lacking).toEqual(['localhost (the agent itself must reach it): by the PAC file and SOCKS only', '10.0.0.0/8: the agent runs as the enrolled user, so its own connections could not be told from theirs'])
    expect(await text()).toContain(` ${NAME}\n`)
    const said: string[] = []
    expect(await agentCommand(['pac', '--state', scene.directory], { out: (line) => said.push(line), err: (line) => said.push(line) })).toBe(0)
    expect(said).toEqual([status.pacUrl])
    expect(await (await fetch(String(status.pacUrl))).text()).toContain(NAME)
    expect(JSON.stringify(scene.lines)).not.toContain(new URL(String(status.pacUrl)).pathname)
    const socket = await happened('the channel', () => scene.ems.sockets[0])
    socket.tell({ type: 'document', kind: 'deregistration', document: await scene.ems.signDeregistration() })
    expect(await agent.ended).toBe('deregistered')
    expect(await text()).toBe(HOSTS)
    expect(await readdir(scene.directory)).toEqual(['deregistered.json', 'lock'])
  })

  it('that was killed while it was let go puts the machine back when it is started again', async () => {
    const { root, hosts, scene, text } = await machine()
    const agent = await scene.start({ root, transparent: true })
    await happened('the names', async () => (await text()).includes(NAME))
    const [block, marker] = [await text(), await readFile(join(scene.directory, 'machine.changed'), 'utf8')]
    await agent.close()
    expect(await text()).toBe(HOSTS)
    // As a kill leaves it.
    await writeFile(hosts, block)
    await writeFile(join(scene.directory, 'machine.changed'), marker)
    await noteLetGo(scene.directory, { uid: agent.uid, ems: 'https://ems.example.com', reason: 'left', at: 1 })
    await expect(scene.start({ root, transparent: true })).rejects.toThrow(/deregistered/)
    expect(await text()).toBe(HOSTS)
  })

  it('changes nothing where neither the profile nor the command asks', async () => {
    const { root, scene, text } = await machine()
    const agent = await scene.start({ root })
    expect((await agent.status()).transparent).toEqual({ asked: false, served: [], lacking: [] })
    expect(await text()).toBe(HOSTS)
    expect(await readdir(scene.directory)).not.toContain('machine.changed')
  })
})
