// What the command line administers: the real EMS, a laptop that enrols and reports, a gateway that decides.
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import canonicalize from 'canonicalize'
import { startGateway, type Gateway, type GatewayEvent } from '../../gateway/start.ts'
import { copyBytes, fromPem, utf8 } from '../../identity/encoding.ts'
import { exportPrivateKey, generateKey, sha256Hex } from '../../identity/keys.ts'
import { createCsr } from '../../identity/request.ts'
import { answerChallenge } from '../../identity/socket-challenge.ts'
import { createControlClient, type Identity } from '../../node/control-client.ts'
import { silentLog } from '../../node/logging.ts'
import { CHANNEL_SUBPROTOCOL, toAgent } from '../../protocol/channel.ts'
import { INVITATION_PREFIX, readInvitation } from '../../protocol/invitation.ts'
import { channel, report } from '../../protocol/operations/endpoint.ts'
import { downloadAuthorities } from '../../protocol/operations/fabric.ts'
import { enrol } from '../../protocol/operations/public.ts'
import { startEms } from '../../start/ems.ts'
import { until } from '../../start/steps.ts'
import { gatewayDirectory, knock, startService, type Knocker } from '../gateway/fabric/gateway-under-test.ts'
import { run, type Ran, type Surroundings } from './command-under-test.ts'

const log = silentLog()
export interface Laptop extends Knocker {
  readonly uid: string
  report(version: string): Promise<void>
  /** Opens the endpoint channel; resolves when the EMS has welcomed it. `asked` resolves when it says: report now. */
  openChannel(): Promise<{ asked: Promise<void> }>
}
export type Fabric = Awaited<ReturnType<typeof startFabric>>

/** Starts the EMS with its data in a directory, as `npm start` does; `cli` runs a command against it. */
export async function startFabric() {
  const directory = await mkdtemp(join(tmpdir(), 'cli-'))
  const ems = await startEms({ directory })
  const service = await startService()
  const closing: (() => Promise<unknown>)[] = []
  const done = new Set<string>()
  const tlsCa = [ems.tlsCaPem]

  /** Notes which commands ended well, so that none goes untried. */
  async function cli(argv: readonly string[], surroundings: Surroundings = {}): Promise<Ran> {
    const ran = await run([...argv, '--local', directory], { directory, ...surroundings })
    if (ran.code === 0) done.add(argv.filter((word) => !word.startsWith('-')).slice(0, 3).join(' '))
    return ran
  }
  return {
    ems, directory, done, cli,
    /** Runs a command that must end well. @returns its JSON, one value a line */
    async json<T>(...argv: string[]): Promise<T[]> {
      const { code, out, err } = await cli([...argv, '--json'])
      if (code !== 0) throw new Error(`cli ${argv.join(' ')} ended with ${code}: ${err}`)
      return out.split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as T)
    },
    async file(name: string, text: string): Promise<string> {
      await writeFile(join(directory, name), text)
      return name
    },
    async enrol(invitation: string): Promise<Laptop> {
      const read = readInvitation(INVITATION_PREFIX, invitation)
      if (read === null) throw new Error(`no invitation: ${invitation}`)
      const keys = await generateKey(true)
      const identity: { current: Identity | null } = { current: null }
      const client = createControlClient({ ems: read.ems, identity: () => identity.current, tlsCa, now: Date.now, log })
      closing.push(() => client.close())
      const { uid, certificate } = await client.call(enrol, { body: { invitation: read.code, csr: await createCsr(keys, 'laptop'), hostName: 'laptop', os: 'linux', agentVersion: '0.1.0', protocol: '7.0.0' } })
      identity.current = { privateKey: keys.privateKey, certificateDer: copyBytes(fromPem('CERTIFICATE', certificate) ?? new Uint8Array()) }
      let sequence = 0
      return {
        uid, certificatePem: certificate, privateKeyPem: await exportPrivateKey(keys.privateKey), serial: '',
        async report(version: string) {
          const os = { type: 'linux' as const, name: 'Debian', version, kernel: '6.1', architecture: 'x64' }
          await client.call(report, { body: { sequence: ++sequence, sections: { os }, hashes: { os: await sha256Hex(utf8(canonicalize(os) ?? '')) } } })
        },
        async openChannel() {
          const socket = await client.openSocket(channel, CHANNEL_SUBPROTOCOL)
          const closed = once(socket, 'close')
          closing.push(async () => {
            socket.close()
            await closed
          })
          const [welcome, asked] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
          socket.on('error', welcome.reject)
          socket.on('message', (frame: Buffer) => {
            const message = toAgent.parse(JSON.parse(frame.toString()))
            if (message.type === 'welcome') welcome.resolve()
            if (message.type === 'report-now') asked.resolve()
            if (message.type !== 'challenge') return
            void answerChallenge(keys.privateKey, message.challenge, 'agent').then((signature) => {
              socket.send(JSON.stringify({ type: 'answer', signature }))
              socket.send(JSON.stringify({ type: 'hello', protocol: '7.0.0', have: { profile: 0, rules: 0, licence: 0, authorities: 0 } }))
            })
          })
          await welcome.promise
          return { asked: asked.promise }
        },
      }
    },
    /** Starts a gateway that lets devices with the tag through; resolves when it follows the EMS. */
    async startGateway(tag: string, how: { joinCode: string } | { pinned: { ems: string; pin: string } }, onEvent: (event: GatewayEvent) => void = () => undefined): Promise<Gateway> {
      const place = await gatewayDirectory(service.port, tag)
      const { promise: current, resolve } = Promise.withResolvers<void>()
      const gateway = await startGateway({
        ...place, ...how, listen: { host: '127.0.0.1', port: 0 }, metricsPort: 0, tlsCa, now: Date.now, log,
        onEvent(event) {
          onEvent(event)
          if (event.event === 'current') resolve()
        },
      })
      closing.push(async () => {
        await gateway.close()
        await rm(dirname(place.policiesFile), { recursive: true })
      })
      await current
      return gateway
    },
    /** The laptop connects until the gateway answers with this code. @returns the id of that decision */
    async decision(gateway: Gateway, laptop: Laptop, code: string): Promise<string> {
      const reader = createControlClient({ ems: ems.address, tlsCa, now: Date.now, log })
      try {
        const authority = await reader.call(downloadAuthorities, {})
        const text = await until(`the code ${code}`, async () => {
          const answer = (await knock(gateway, laptop, authority)).text
          return answer.includes(`details="${code} `) ? answer : null
        })
        return /D[0-9A-F]{12}-[0-9A-Z]{16}/.exec(text)?.[0] ?? ''
      } finally {
        await reader.close()
      }
    },
    async close() {
      for (const close of closing.reverse()) await close()
      await service.close()
      await ems.close()
      await rm(directory, { recursive: true, maxRetries: 10 })
    },
  }
}
