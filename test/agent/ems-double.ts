// The far side of an agent: a real HTTPS and websocket server with the real signatures and documents, which misbehaves where a test wants it to.
import { createServer, type Server } from 'node:https'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { buffer } from 'node:stream/consumers'
import canonicalize from 'canonicalize'
import { WebSocketServer, type WebSocket } from 'ws'
import { createAuthority, issueCertificate, issueServerCertificate, type Authority } from '../../identity/authority.ts'
import { readCertificate, trustAuthority } from '../../identity/certificate.ts'
import { signDocument, type Signer } from '../../identity/document.ts'
import { copyBytes, utf8 } from '../../identity/encoding.ts'
import { exportPrivateKey, exportPublicKey, generateKey, sha256Hex } from '../../identity/keys.ts'
import { readCsr } from '../../identity/request.ts'
import { verifyRequest, type SignedCaller } from '../../identity/request-signature.ts'
import { newChallenge, verifyAnswer } from '../../identity/socket-challenge.ts'
import type { ToAgent } from '../../protocol/channel.ts'
import type { DocumentKind, DocumentPayload } from '../../protocol/documents.ts'
import { faults, type FaultCode, type FaultExtras } from '../../protocol/faults.ts'
import { writeInvitation } from '../../protocol/invitation.ts'
import type { Operation } from '../../protocol/operation.ts'
import * as endpointOperations from '../../protocol/operations/endpoint.ts'
import * as signInOperations from '../../protocol/operations/sign-in.ts'
import * as publicOperations from '../../protocol/operations/public.ts'
import { profileSettings, type ProfileSettings } from '../../protocol/profile.ts'
import type { AgentRules } from '../../protocol/rules.ts'
import { freePort } from '../../start/free-port.ts'

export const UID = '0123456789abcdef0123456789abcdef'
const DAY = 86_400_000
type Bodies = { [K in DocumentKind]: DocumentPayload<K>['body'] }
export type Standing = 'profile' | 'rules' | 'licence'

/** What an operation answers: JSON, raw text, a closed connection, or nothing at all. */
export type Answer = { status?: number; json: unknown } | { status?: number; text: string } | 'cut' | 'silence'
export interface Asked { readonly id: string; readonly body: Record<string, unknown>; readonly caller: SignedCaller | null; /** The usual answer, done for real. */ usual(): Promise<Answer> }
export interface AgentSocket { readonly socket: WebSocket; readonly said: Record<string, unknown>[]; tell(message: ToAgent): void }

const operations: readonly Operation[] = [...Object.values(publicOperations), ...Object.values(endpointOperations), ...Object.values(signInOperations)].flatMap((each) => ('caller' in each ? [each] : []))
export const refusal = (code: FaultCode, extras: FaultExtras = {}): Answer => ({ status: faults[code][0], json: { type: `urn:sallyport:fault:${code}`, title: code, status: faults[code][0], code, detail: `refused: ${code}`, ...extras } })

export class EmsDouble {
  /** CAs, the active one first, each with its document signer. */
  cas: { authority: Authority; signer: Signer }[] = []
  tlsCa = ''
  /** ms that its clock is ahead of this machine's. */
  aheadMs = 0
  leafDays = 30
  registered = true
  /** Sections as taken, by hash of their canonical JSON. */
  readonly held = new Map<string, { hash: string; value: unknown }>()
  sequence = 0
  standing: Partial<{ [K in Standing]: { version: number; body: Bodies[K] } }> = {}
  authoritiesVersion = 1
  /** Instead of the usual answer of an operation, by its id. */
  readonly instead = new Map<string, (asked: Asked) => Answer | Promise<Answer>>()
  readonly requests: { id: string; body: Record<string, unknown> }[] = []
  /** Channels that were open to both sides, the oldest first. */
  readonly sockets: AgentSocket[] = []
  /** Opens a socket as the EMS does unless a test says otherwise. */
  meet: (socket: WebSocket, caller: SignedCaller) => void = (socket, caller) => this.#welcome(socket, caller)
  /** Refuses upgrades with this status; null: none. */
  refuseUpgrades: number | null = null
  readonly certificates = new Map<string, string>()
  #port = 0
  #server: Server | null = null
  #upgrades: WebSocketServer | null = null
  #tls = { cert: '', key: '' }
  #tlsRoot: Authority | null = null

  get address(): string { return `https://localhost:${this.#port}` }
  get invitation(): string { return writeInvitation('sp1.', { ems: this.address, pin: this.cas.at(-1)?.authority.pin ?? '', code: 'A'.repeat(43) }) }
  /** Its server certificate, for `localhost`. */
  get tls(): { cert: string; key: string } { return this.#tls }
  now(): number { return Date.now() + this.aheadMs }
  /** Requests of one operation so far. */
  count(id: string): number { return this.requests.filter((each) => each.id === id).length }

  /** Makes another CA the active one. */
  async roll(): Promise<void> {
    const authority = await createAuthority({ name: 'EMS of the test', now: this.now() })
    const keys = await generateKey()
    const { der } = await issueCertificate({ authority, publicKeySpki: await exportPublicKey(keys.publicKey), purpose: 'signing', commonName: 'signing', now: this.now(), days: 3640 })
    this.cas.unshift({ authority, signer: { privateKey: keys.privateKey, certificateDer: der } })
    this.authoritiesVersion = this.now()
  }
  /** The server certificate, made anew. */
  async present(over: { names?: string[]; issuedAt?: number } = {}): Promise<void> {
    this.#tlsRoot ??= await createAuthority({ name: 'TLS of the test', now: Date.now() - 400 * DAY })
    const keys = await generateKey(true)
    const issued = await issueServerCertificate({ authority: this.#tlsRoot, publicKeySpki: await exportPublicKey(keys.publicKey), commonName: 'localhost', dnsNames: over.names ?? ['localhost'], ipAddresses: [], now: over.issuedAt ?? Date.now() })
    this.tlsCa = this.#tlsRoot.certificatePem
    this.#tls = { cert: issued.pem, key: await exportPrivateKey(keys.privateKey) }
    this.#server?.setSecureContext(this.#tls)
  }
  set<K extends Standing>(kind: K, body: Bodies[K]): void {
    this.standing = { ...this.standing, [kind]: { version: Math.max(this.now(), (this.standing[kind]?.version ?? 0) + 1), body } }
  }
  setProfile(settings: Partial<ProfileSettings> = {}): void {
    this.set('profile', { profile: { id: '00000000-0000-4000-8000-000000000001', name: 'profile' }, policy: { id: '00000000-0000-4000-8000-000000000002', name: 'everybody' }, settings: profileSettings.parse({ proxy: { httpPort: 0, socksPort: 0 }, ...settings }) })
  }
  setRules(conditions: AgentRules['conditions']): void { this.set('rules', { revision: 1, conditions }) }
  /** Signs a document; by the active CA unless said. */
  async sign<K extends DocumentKind>(kind: K, body: Bodies[K], over: { to?: string; version?: number; ca?: number } = {}): Promise<string> {
    const signer = this.cas.at(over.ca ?? 0)?.signer
    if (signer === undefined) throw new Error('no such CA')
    return await signDocument({ kind, to: over.to ?? UID, version: over.version ?? this.now(), body }, signer)
  }
  signAuthorities(version = this.now()): Promise<string> {
    return this.sign('authorities', { certificates: this.cas.map(({ authority }) => authority.certificatePem) }, { version, ca: -1 })
  }
  signDeregistration(reason = 'left'): Promise<string> { return this.sign('deregistration', { reason }, { ca: -1 }) }

  async start(): Promise<void> {
    const server = createServer(this.#tls, (request, response) => { this.#serve(request, response).catch((cause: Error) => { response.writeHead(500).end(cause.stack) }) })
    this.#upgrades = new WebSocketServer({ noServer: true })
    server.on('upgrade', (request, socket, head) => {
      this.requests.push({ id: 'channel', body: {} })
      this.#callerOf(request, utf8(''), 0).then((caller) => {
        const status = this.refuseUpgrades ?? (caller === null ? 401 : null)
        if (status !== null || caller === null) return void socket.end(`HTTP/1.1 ${status} No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
        this.#upgrades?.handleUpgrade(request, socket, head, (opened) => this.meet(opened, caller))
      }, () => socket.destroy())
    })
    // It comes back on this port: nobody else may be given it meanwhile.
    if (this.#port === 0) this.#port = await freePort(0, 'localhost')
    await new Promise<void>((resolve) => server.listen(this.#port, 'localhost', resolve))
    this.#server = server
  }
  /** Stops answering, as a machine that was switched off; `start` brings it back on the same port. */
  async stop(): Promise<void> {
    for (const client of this.#upgrades?.clients ?? []) client.terminate()
    const closed = new Promise<void>((resolve) => this.#server?.close(() => resolve()) ?? resolve())
    this.#server?.closeAllConnections()
    await closed
    this.#server = null
  }

  #welcome(socket: WebSocket, { publicKeySpki }: SignedCaller): void {
    const challenge = newChallenge()
    const met: AgentSocket = { socket, said: [], tell: (message) => socket.send(JSON.stringify(message)) }
    socket.on('error', () => socket.terminate())
    socket.on('message', (data: Buffer) => {
      if (data.toString() === 'ping') return socket.send('pong')
      const message = JSON.parse(data.toString()) as { type: string; signature?: string }
      met.said.push(message)
      // The EMS welcomes before the agent has read it; by its hello the agent says that its channel is open.
      if (message.type === 'hello') this.sockets.push(met)
      if (message.type !== 'answer') return
      void verifyAnswer(publicKeySpki, challenge, 'agent', message.signature ?? '').then((right) => {
        if (!right) return met.tell({ type: 'bye', reason: 'bad-challenge' })
        met.tell({ type: 'welcome', at: this.now() })
      })
    })
    met.tell({ type: 'challenge', challenge })
  }

  async #callerOf(request: IncomingMessage, body: Uint8Array<ArrayBuffer>, acceptsExpiredMs: number): Promise<SignedCaller | null> {
    const verdict = await this.#verify(request, body, acceptsExpiredMs)
    return verdict.ok ? verdict.caller : null
  }
  async #verify(request: IncomingMessage, body: Uint8Array<ArrayBuffer>, acceptsExpiredMs: number) {
    return await verifyRequest({
      method: request.method ?? '', url: `${this.address}${request.url ?? ''}`, headers: new Headers(request.headers as Record<string, string>), body, now: this.now(),
      authorities: await Promise.all(this.cas.map(({ authority }) => trustAuthority(authority.certificatePem))), purposes: ['agent'], bareKey: false, acceptsExpiredMs,
    })
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const bytes = copyBytes(await buffer(request))
    const operation = operations.find(({ method, path }) => method === request.method && new RegExp(`^${path.replaceAll(/\{\w+\}/g, '[^/]+')}$`).test(request.url ?? ''))
    if (operation === undefined) return void response.writeHead(404).end()
    const body = (bytes.length === 0 ? {} : JSON.parse(Buffer.from(bytes).toString())) as Record<string, unknown>
    this.requests.push({ id: operation.id, body })
    const verdict = operation.caller === 'endpoint' ? await this.#verify(request, bytes, operation.acceptsExpired === true ? 30 * DAY : 0) : null
    const caller = verdict?.ok === true ? verdict.caller : null
    const usual = async (): Promise<Answer> => {
      if (verdict?.ok === false) return refusal(verdict.code, verdict.code === 'clock_skew' ? { emsTime: this.now() } : {})
      if (operation.caller === 'endpoint' && !this.registered) return refusal('deregistered', { document: await this.signDeregistration() })
      return await this.#usual(operation.id, body, request.headers.host ?? '')
    }
    const answer = await (this.instead.get(operation.id) ?? usual)({ id: operation.id, body, caller, usual })
    if (answer === 'cut') request.socket.destroy()
    else if (answer !== 'silence') response.writeHead(answer.status ?? 200, { 'content-type': 'application/json' }).end('json' in answer ? JSON.stringify(answer.json) : answer.text)
  }

  async #usual(id: string, body: Record<string, unknown>, host: string): Promise<Answer> {
    const [active] = this.cas
    if (active === undefined) throw new Error('no CA')
    switch (id) {
      case 'introduce': {
        const ca = this.cas.findIndex(({ authority }) => authority.pin === body.pin)
        if (ca < 0) return refusal('not_found')
        const said = { challenge: String(body.challenge), authority: host, emsSerial: 'SPEMS0123456789AB', emsTime: this.now(), certificates: this.cas.map(({ authority }) => authority.certificatePem) }
        return { json: { document: await this.sign('introduction', said, { to: '*', ca }) } }
      }
      case 'enrol': {
        const { licence = { version: 1, body: { state: 'seated' as const, features: ['all'], endsAt: null } }, rules = { version: 1, body: { revision: 0, conditions: [] } }, profile } = this.standing
        this.standing = { licence, rules, ...(profile === undefined ? {} : { profile }) }
        return { json: {
          uid: UID, certificate: await this.certify(String(body.csr)), authorities: await this.signAuthorities(), licence: await this.sign('licence', licence.body), rules: await this.sign('rules', rules.body),
          profile: profile === undefined ? null : await this.sign('profile', profile.body), emsTime: this.now(),
        } }
      }
      case 'renew': return { json: { certificate: await this.certify(String(body.csr)), authorities: await this.signAuthorities() } }
      case 'report': return await this.#report(body as never)
      case 'documents': return { json: { documents: await this.#newer((body as { have: Record<string, number> }).have) } }
      case 'put-avatar': return { json: { fingerprint: await sha256Hex(copyBytes(Buffer.from(String(body.image), 'base64'))) } }
      case 'own-tags': return { json: { tags: [] } }
      case 'own-identity': return { json: { signedIn: null } }
      default: return refusal('not_found')
    }
  }
  /** The same key asking again gets the same certificate. */
  async certify(csr: string): Promise<string> {
    const read = await readCsr(csr)
    const [active] = this.cas
    if (read === null || active === undefined) throw new Error('no CSR')
    const pem = this.certificates.get(read.publicKeyHash) ?? (await issueCertificate({ authority: active.authority, publicKeySpki: read.publicKeySpki, purpose: 'agent', commonName: UID, now: this.now(), days: this.leafDays })).pem
    this.certificates.set(read.publicKeyHash, pem)
    if (readCertificate(pem) === null) throw new Error('no certificate')
    return pem
  }
  get versions() { return { profile: this.standing.profile?.version ?? 1, rules: this.standing.rules?.version ?? 1, licence: this.standing.licence?.version ?? 1, authorities: this.authoritiesVersion } }
  async #newer(have: Record<string, number>): Promise<string[]> {
    const documents = this.versions.authorities > (have.authorities ?? 0) ? [await this.signAuthorities()] : []
    for (const kind of ['profile', 'rules', 'licence'] as const) {
      const standing = this.standing[kind]
      if (standing !== undefined && standing.version > (have[kind] ?? 0)) documents.push(await this.sign(kind, standing.body))
    }
    return documents
  }
  async #report({ sequence, sections, hashes }: { sequence: number; sections: Record<string, unknown>; hashes: Record<string, string> }): Promise<Answer> {
    const hashed = await Promise.all(Object.entries(sections).map(async ([name, value]) => ({ name, value, hash: await sha256Hex(utf8(canonicalize(value) ?? '')) })))
    const wrong = hashed.find(({ name, hash }) => hashes[name] !== hash)
    if (wrong !== undefined) return refusal('invalid', { errors: [{ pointer: `/hashes/${wrong.name}`, detail: 'is another' }] })
    const changed = hashed.filter(({ name, hash }) => this.held.get(name)?.hash !== hash)
    if (changed.length > 0) {
      if (sequence <= this.sequence) return refusal('stale_sequence', { sequence: this.sequence })
      this.sequence = sequence
      for (const { name, value, hash } of changed) this.held.set(name, { hash, value })
    }
    return { json: { sequence: this.sequence, wanted: Object.keys(hashes).filter((name) => this.held.get(name)?.hash !== hashes[name]), documents: this.versions, emsTime: this.now() } }
  }
}

export async function startEmsDouble(): Promise<EmsDouble> {
  const ems = new EmsDouble()
  await ems.roll()
  await ems.present()
  await ems.start()
  return ems
}
