// A gateway's following part, as a member of the double's fabric, with its own directory and timers.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { issueCertificate } from '../../../identity/authority.ts'
import { exportPrivateKey, exportPublicKey, generateKey } from '../../../identity/keys.ts'
import { createControlClient } from '../../../node/control-client.ts'
import { createLog } from '../../../node/logging.ts'
import type { Decision } from '../../../protocol/decisions.ts'
import { followFabric, type FabricEvent, type Following } from '../../../gateway/fabric/follow.ts'
import { beginMembership, type Membership } from '../../../gateway/fabric/membership.ts'
import type { PollSettings } from '../../../gateway/fabric/polling.ts'
import { createReplica, type Replica, type ReplicaState } from '../../../gateway/fabric/replica.ts'
import { systemTimers, type Timers } from '../../../node/timers.ts'
import type { Changed, ChangeCause } from '../../../gateway/world.ts'
import { SERIAL, type EmsDouble, type GatewaySocket } from './ems-double.ts'

/** Waits until `check` holds, looking every few ms; fails after 30 s, which only guards against hanging. */
export async function until<T>(what: string, check: () => T | null | undefined | false | Promise<T | null | undefined | false>): Promise<T> {
  const deadline = Date.now() + 30_000
  for (;;) {
    const found = await check()
    if (found !== null && found !== undefined && found !== false) return found
    if (Date.now() > deadline) throw new Error(`never came: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 4))
  }
}

/** Timers that go off when the test says that time has passed. */
export class ManualTimers implements Timers {
  #now = 0
  #set = new Map<object, { at: number; action: () => void }>()

  after(delayMs: number, action: () => void): () => void {
    const key = {}
    this.#set.set(key, { at: this.#now + delayMs, action })
    return () => {
      this.#set.delete(key)
    }
  }

  advance(ms: number): void {
    this.#now += ms
    for (const [key, { at, action }] of this.#set) {
      if (at > this.#now) continue
      this.#set.delete(key)
      action()
    }
  }
}

/** A log whose lines can be read. */
export function readableLog(): { log: ReturnType<typeof createLog>; events: () => { event: string }[] } {
  const stream = new PassThrough()
  const lines: string[] = []
  stream.on('data', (chunk: Buffer) => lines.push(...chunk.toString().trim().split('\n')))
  return { log: createLog({ name: 'gateway', destination: stream }), events: () => lines.map((line) => JSON.parse(line) as { event: string }) }
}

export interface FollowerUnderTest {
  readonly world: Following
  readonly replica: Replica
  readonly membership: Membership
  readonly directory: string
  readonly events: FabricEvent[]
  readonly changes: { changed: Changed; cause: ChangeCause }[]
  readonly logged: () => { event: string }[]
  /** The newest socket that the gateway opened. */
  socket(): Promise<GatewaySocket>
  close(): Promise<void>
}

export async function newMembership(ems: EmsDouble, directory: string, issuedAt = Date.now()): Promise<Membership> {
  const keys = await generateKey(true)
  const issued = await issueCertificate({ authority: ems.authority, publicKeySpki: await exportPublicKey(keys.publicKey), purpose: 'gateway', commonName: SERIAL, now: issuedAt })
  return await beginMembership(directory, {
    ems: ems.address, serial: SERIAL, certificate: issued.pem, privateKey: await exportPrivateKey(keys.privateKey), authorities: [ems.authority.certificatePem], authoritiesVersion: 0,
  })
}

export async function startFollower(ems: EmsDouble, options: { state?: ReplicaState; timers?: Timers; now?: () => number; poll?: PollSettings; findDecision?: (id: string) => Promise<Decision | null> } = {}): Promise<FollowerUnderTest> {
  const directory = await mkdtemp(join(tmpdir(), 'follower-'))
  const { timers = systemTimers, now = Date.now } = options
  const { log, events: logged } = readableLog()
  const membership = await newMembership(ems, directory)
  const client = createControlClient({
    ems: ems.address, tlsCa: [ems.tlsCa], now: Date.now, log,
    identity: () => ({ privateKey: membership.member().privateKey, certificateDer: membership.member().certificate.der }),
  })
  const replica = createReplica(options.state)
  const changes: FollowerUnderTest['changes'] = []
  replica.onChange((changed, cause) => changes.push({ changed, cause }))
  const events: FabricEvent[] = []
  const world = followFabric({
    membership, client, replica, timers, now, log, poll: options.poll, findDecision: options.findDecision ?? (() => Promise.resolve(null)), onClockOffset: () => {}, onEvent: (event) => events.push(event),
  })
  return {
    world, replica, membership, directory, events, changes, logged,
    socket: () => until('a socket', () => ems.sockets.findLast(({ socket }) => socket.readyState === socket.OPEN)),
    async close() {
      const closed = world.close()
      await client.close()
      await closed
      await rm(directory, { recursive: true })
    },
  }
}
