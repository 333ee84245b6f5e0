// A gate with real TLS in front of real services, its world and clock held by the test.
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect as connectHttp2, type ClientHttp2Session, type ClientHttp2Stream, type IncomingHttpHeaders } from 'node:http2'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import type { EndpointRecord } from '../../../domain/access/endpoint-record.ts'
import type { Origin } from '../../../domain/access/geo.ts'
import type { Policies } from '../../../domain/access/policies.ts'
import { readPolicies } from '../../../domain/access/read-policies.ts'
import { emptySnapshot, nextSnapshot, type Snapshot, type SnapshotChanges } from '../../../domain/access/snapshot.ts'
import { openAudit } from '../../../gateway/audit/audit.ts'
import { createMetrics } from '../../../gateway/metrics/metrics.ts'
import { openAssertionKeys } from '../../../gateway/proxy/assertion-keys.ts'
import { startProxy, type ProxyOptions } from '../../../gateway/proxy/start.ts'
import { systemTimers, type Timers } from '../../../node/timers.ts'
import type { ChangeCause, Changed, World } from '../../../gateway/world.ts'
import { createAuthority, issueCertificate, type Authority } from '../../../identity/authority.ts'
import { exportPrivateKey, exportPublicKey, generateKey } from '../../../identity/keys.ts'
import { silentLog } from '../../../node/logging.ts'
import { gatewayTlsName, type Purpose } from '../../../protocol/certificates.ts'
import type { VerifiedUser } from '../../../protocol/identity.ts'

export const GATEWAY = 'SPGW0123456789AB'
export const UID = 'a'.repeat(31) + '1'
export const OTHER = 'b'.repeat(31) + '2'
export const OK_TAG = '11111111-1111-4111-8111-111111111111'
export const BAD_TAG = '22222222-2222-4222-8222-222222222222'

export interface Credential { cert: string; key: string; serial: string; notAfter: number; purpose: Purpose }

/** Issues a certificate with a new key. `at` is the clock of the CA. */
export async function issue(authority: Authority, commonName: string, purpose: Purpose, at = Date.now(), days = 30): Promise<Credential> {
  const keys = await generateKey(true)
  const issued = await issueCertificate({ authority, publicKeySpki: await exportPublicKey(keys.publicKey), purpose, commonName, now: at, days })
  return { cert: issued.pem, key: await exportPrivateKey(keys.privateKey), serial: issued.serial, notAfter: issued.notAfter, purpose }
}

export const record = (uid: string, credentials: Credential[], more: Partial<EndpointRecord> = {}): EndpointRecord => ({
  uid, registered: true, online: true, onFabric: false, quarantined: false, hostName: 'laptop', addresses: [], macs: [], tagsKnown: true,
  certificates: credentials.map(({ serial, purpose, notAfter }) => ({ serial, purpose: purpose === 'browser' ? purpose : 'agent', user: '', notAfter })),
  tags: new Map([[OK_TAG, { validUntil: null }]]), unknown: new Set(), unknownUntil: null, ...more,
})

/** A user who has just proved who he is, whom his provider vouches for without end unless said. */
export const userOf = (email: string, more: Partial<VerifiedUser> = {}): VerifiedUser => ({ issuer: 'https://idp.test', subject: `id-of-${email}`, email, authenticatedAt: Date.now(), expiresAt: null, ...more })

/** A clock that moves only when told, and its timers. */
export function heldClock(start: number): { now: () => number; timers: Timers; advance: (ms: number) => void } {
  let now = start
  const waiting = new Set<{ at: number; action: () => void }>()
  return {
    now: () => now,
    timers: { after(delayMs, action) {
      const entry = { at: now + delayMs, action }
      waiting.add(entry)
      return () => waiting.delete(entry)
    } },
    advance(ms) {
      const end = now + ms
      for (;;) {
        const [next] = [...waiting].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)
        if (next === undefined) break
        waiting.delete(next)
        now = Math.max(now, next.at)
        next.action()
      }
      now = end
    },
  }
}

export async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

/** A TCP service that gives back what it gets, prefixed once. */
export async function startEcho(): Promise<{ port: number; sockets: Set<Socket>; close: () => void }> {
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => socket.destroy())
    socket.on('data', (chunk) => socket.write(chunk))
    socket.on('end', () => socket.end('bye'))
  })
  const port = await listen(server)
  return { port, sockets, close: () => {
    for (const socket of sockets) socket.destroy()
    server.close()
  } }
}

const cleanUps: (() => unknown)[] = []
/** Ends everything that a test opened, newest first. */
export async function cleanUp(): Promise<void> {
  for (const action of cleanUps.splice(0).reverse()) await action()
}
export const later = <T extends () => unknown>(action: T): void => void cleanUps.push(action)

/** Another gate of the same fabric: same CA, same device. */
interface SameFabric { authority: Authority; agent: Credential; browser: Credential }

export async function startGate(yaml: string, more: Partial<Pick<ProxyOptions, 'timers' | 'now' | 'resolve' | 'limits' | 'alsoRefused' | 'onProved' | 'traces' | 'log'>> & { authorities?: () => string[] | undefined; originOf?: (source: string) => Origin; serial?: string; like?: SameFabric } = {}) {
  const now = more.now ?? Date.now
  const { serial = GATEWAY, like } = more
  const authority = like?.authority ?? await createAuthority({ name: 'Test CA', now: now() })
  const own = await issue(authority, serial, 'gateway', now())
  const agent = like?.agent ?? await issue(authority, UID, 'agent', now())
  const browser = like?.browser ?? await issue(authority, UID, 'browser', now())
  const compile = (text: string): Policies => {
    const read = readPolicies(text)
    if (!read.ok) throw new Error(JSON.stringify(read.errors))
    return read.policies
  }
  let policies = compile(yaml)
  const policyListeners = new Set<() => void>()
  let snapshot: Snapshot = nextSnapshot(emptySnapshot, {
    revision: '1.0000000000000000', currentAt: now(), tagNames: new Map([[OK_TAG, 'compliant'], [BAD_TAG, 'infected']]), endpoints: new Map([[UID, record(UID, [agent, browser])]]),
  })
  const listeners = new Set<(changed: Changed, cause: ChangeCause) => void>()
  const lookups: string[] = []
  let answering = true
  const answers = new Map<string, EndpointRecord>()
  const world: World = {
    snapshot: () => snapshot,
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    async lookup(uid) {
      lookups.push(uid)
      const found = answers.get(uid)
      if (found !== undefined) snapshot = nextSnapshot(snapshot, { endpoints: new Map([[uid, found]]) })
      return answering
    },
  }
  const change = (changes: SnapshotChanges, changed: Changed = new Set(changes.endpoints?.keys())) => {
    snapshot = nextSnapshot(snapshot, changes)
    for (const listener of listeners) listener(changed, { at: now() })
  }
  const directory = mkdtempSync(join(tmpdir(), 'gate-'))
  const audit = await openAudit({ directory, log: silentLog(), now })
  const metrics = createMetrics()
  const assertionKeys = await openAssertionKeys({ directory, now, timers: systemTimers, log: silentLog() })
  const proxy = await startProxy({
    assertionKeys, stateDirectory: directory, world, audit, metrics, identity: { certPem: own.cert, keyPem: own.key }, log: silentLog(), now, timers: systemTimers,
    policies: { current: () => policies, originOf: more.originOf ?? (() => 'unknown'), onChange: (listener) => {
      policyListeners.add(listener)
      return () => policyListeners.delete(listener)
    } },
    listen: { host: '127.0.0.1', port: 0 }, ...more, serial, authorities: () => more.authorities?.() ?? [authority.certificatePem],
  })
  later(async () => {
    await proxy.close()
    await audit.close()
    assertionKeys.close()
    rmSync(directory, { recursive: true })
  })
  return {
    proxy, authority, agent, browser, audit, metrics, change, lookups, answers, directory,
    putTags: (tags: string[], unknown: string[] = []) => change({ endpoints: new Map([[UID, record(UID, [agent, browser], { tags: new Map(tags.map((tag) => [tag, { validUntil: null }])), unknown: new Set(unknown) })]]) }),
    /** From now on the EMS answers no look-up. */
    silence() {
      answering = false
    },
    putPolicies(text: string) {
      policies = compile(text)
      for (const listener of policyListeners) listener()
    },
  }
}
export type Gate = Awaited<ReturnType<typeof startGate>>

const tlsOptions = (gate: Gate, credential: Credential | null) => ({
  ca: gate.authority.certificatePem, servername: gatewayTlsName(GATEWAY), ...(credential === null ? {} : { cert: credential.cert, key: credential.key }),
})

/** An HTTP/2 connection to the gate. */
export function openHttp2(gate: Gate, credential: Credential | null): ClientHttp2Session {
  const session = connectHttp2(`https://127.0.0.1:${gate.proxy.port}`, tlsOptions(gate, credential))
  session.on('error', () => session.destroy())
  later(() => session.destroy())
  return session
}

export interface Answer { status: number; headers: IncomingHttpHeaders; stream: ClientHttp2Stream; body: () => Promise<string> }

/** Sends a request and waits for the head of its answer. */
export async function ask(session: ClientHttp2Session, headers: Record<string, string>, keepOpen = false): Promise<Answer> {
  const stream = session.request(headers, { endStream: !keepOpen })
  stream.on('error', () => stream.destroy())
  const [head] = await once(stream, 'response') as [IncomingHttpHeaders & { ':status': number }]
  return { status: head[':status'], headers: head, stream, body: async () => {
    let text = ''
    for await (const chunk of stream) text += String(chunk)
    return text
  } }
}

export const connectTo = (session: ClientHttp2Session, authority: string): Promise<Answer> => ask(session, { ':method': 'CONNECT', ':authority': authority }, true)

/** A refusal over HTTP/2, parsed. */
export async function refused(session: ClientHttp2Session, authority: string): Promise<{ status: number; reason: string; code: string; decision: string; uid: string | null; message: string; proxyStatus: string }> {
  const answer = await connectTo(session, authority)
  answer.stream.end()
  return { status: answer.status, proxyStatus: String(answer.headers['proxy-status']), ...JSON.parse(await answer.body()) as { reason: string; code: string; decision: string; uid: string | null; message: string } }
}

/** A TLS socket to the gate that speaks HTTP/1.1. */
export async function openHttp1(gate: Gate, credential: Credential | null): Promise<TLSSocket> {
  const socket = connectTls({ host: '127.0.0.1', port: gate.proxy.port, ...tlsOptions(gate, credential), ALPNProtocols: ['http/1.1'] })
  socket.on('error', () => socket.destroy())
  later(() => socket.destroy())
  await once(socket, 'secureConnect')
  return socket
}

/** Reads from a stream until `wanted` has come. */
export async function readUntil(stream: NodeJS.ReadableStream, wanted: string): Promise<string> {
  let text = ''
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const take = (chunk: Uint8Array) => {
    text += Buffer.from(chunk).toString()
    if (text.includes(wanted)) resolve(text)
  }
  const fail = () => reject(new Error(`ended before "${wanted}": ${text}`))
  stream.on('data', take)
  stream.once('close', fail)
  try {
    return await promise
  } finally {
    stream.removeListener('data', take)
    stream.removeListener('close', fail)
  }
}

/** Waits until something is so; the limit only guards against hanging. */
export async function until(condition: () => boolean | Promise<boolean>, limitMs = 30_000): Promise<void> {
  const end = performance.now() + limitMs
  while (!await condition()) {
    if (performance.now() > end) throw new Error(`it did not come true within ${limitMs} ms`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
