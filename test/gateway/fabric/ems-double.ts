// The far side: a real HTTPS and websocket server that says what each test wants, with the real signatures and documents.
import { createServer } from 'node:https'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { WebSocketServer, type WebSocket } from 'ws'
import { createAuthority, issueCertificate, type Authority } from '../../../identity/authority.ts'
import { trustAuthority } from '../../../identity/certificate.ts'
import { signDocument, type Signer } from '../../../identity/document.ts'
import { exportPublicKey, generateKey, keyFingerprint } from '../../../identity/keys.ts'
import { readCsr } from '../../../identity/request.ts'
import { verifyRequest } from '../../../identity/request-signature.ts'
import { newChallenge, verifyAnswer } from '../../../identity/socket-challenge.ts'
import type { Fault } from '../../../protocol/faults.ts'
import { fromGateway, type FromGateway, type ToGateway } from '../../../protocol/fabric/notify.ts'
import type { HostTag, SysinfoRecord, UidTags } from '../../../protocol/fabric/tables.ts'
import * as fabric from '../../../protocol/operations/fabric.ts'
import { introduce } from '../../../protocol/operations/public.ts'
import { freePort } from '../../../start/free-port.ts'
import { localTls } from '../../../start/local-tls.ts'

export const SERIAL = 'SPGW0123456789AB'

type Current = Extract<ToGateway, { type: 'current' }>
type Told = Exclude<ToGateway, Current> | (Omit<Current, 'after'> & { after?: string })

export interface PageAnswer { updated_after: string; uid_offset?: string; is_final?: boolean; is_snapshot?: boolean; rows: Record<string, unknown> }
/** One socket of a gateway that has proved itself and said hello. */
export interface GatewaySocket {
  readonly socket: WebSocket
  readonly hello: Extract<FromGateway, { type: 'hello' }>
  /** Everything it said after hello. */
  readonly said: FromGateway[]
  /** Where `current` continues from the one before on this socket is filled in, unless it is said. */
  tell(...messages: Told[]): void
}

export interface EmsDouble {
  readonly address: string
  readonly tlsCa: string
  authority: Authority
  /** What joining answers; `authorised` issues a certificate. */
  joining: { state: 'pending' | 'authorised' | 'denied'; reason: string }
  /** Bodies of `init`, and fingerprints of the keys that signed them. */
  readonly inits: { joinCode: string | undefined; fingerprint: string }[]
  renewals: number
  /** Answers of the report tables, asked with the query. */
  sysinfo: (query: URLSearchParams) => PageAnswer | Promise<PageAnswer>
  uidTags: (query: URLSearchParams) => PageAnswer | Promise<PageAnswer>
  hostTags: HostTag[]
  /** Queries that the tables were asked with, like `sysinfo?updated_after=…`. */
  readonly reads: string[]
  /** A code that every signed call and upgrade is refused with; null: none. */
  refusal: 'not_authorised' | 'clock_skew' | null
  /** Upgrades are answered with 502, as by a proxy that takes them away. */
  noWebsocket: boolean
  /** Answers `status`, asked with table → watermark. */
  status: (held: Record<string, string>) => object | Promise<object>
  /** Who proves itself to this gateway's challenge: its CA unless a test says otherwise. */
  introducedBy: () => Promise<Signer>
  /** Called with each gateway that has said hello. */
  onHello: (socket: GatewaySocket) => void
  readonly sockets: GatewaySocket[]
  /** Stops answering, as a machine that was switched off; `start` brings it back on the same port. */
  stop(): Promise<void>
  start(): Promise<void>
}

const reply = (response: ServerResponse, status: number, json: unknown) => response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(json))
const ok = { retval: 1 }

async function newSigner(authority: Authority): Promise<Signer> {
  const keys = await generateKey()
  const { der } = await issueCertificate({ authority, publicKeySpki: await exportPublicKey(keys.publicKey), purpose: 'signing', commonName: 'signing', now: Date.now() })
  return { privateKey: keys.privateKey, certificateDer: der }
}

export async function startEmsDouble(): Promise<EmsDouble> {
  const tls = await localTls(await mkdtemp(join(tmpdir(), 'ems-double-')), Date.now())
  const authority = await createAuthority({ name: 'EMS of the test', now: Date.now() })
  const signer = await newSigner(authority)
  const trusted = await trustAuthority(authority.certificatePem)
  const sockets: GatewaySocket[] = []
  let port = 0
  let server: ReturnType<typeof createServer> | null = null
  let refuseUpgrades: WebSocketServer | null = null

  const signedCaller = async (request: IncomingMessage, body: Uint8Array<ArrayBuffer>, bareKey: boolean) => await verifyRequest({
    method: request.method ?? '', url: `https://localhost:${port}${request.url ?? ''}`, headers: new Headers(request.headers as Record<string, string>), body, now: Date.now(),
    authorities: [trusted], purposes: ['gateway'], bareKey, acceptsExpiredMs: 30 * 86_400_000,
  })

  const double: EmsDouble = {
    get address() { return `https://localhost:${port}` },
    tlsCa: tls.caPem, authority,
    joining: { state: 'authorised', reason: 'by its join code' }, inits: [], renewals: 0,
    sysinfo: () => ({ updated_after: mark(1), is_snapshot: true, rows: {} }),
    uidTags: () => ({ updated_after: mark(1), is_snapshot: true, rows: {} }),
    hostTags: [], reads: [], refusal: null, noWebsocket: false, status: () => ({}), introducedBy: () => Promise.resolve(signer), onHello: () => {}, sockets,
    async stop() {
      for (const client of refuseUpgrades?.clients ?? []) client.terminate()
      const closed = new Promise<void>((resolve) => server?.close(() => resolve()) ?? resolve())
      server?.closeAllConnections()
      await closed
      server = null
    },
    async start() {
      const listening = createServer({ cert: tls.certificatePem, key: tls.privateKeyPem }, (request, response) => {
        serve(request, response).catch((cause: Error) => reply(response, 500, { message: cause.stack }))
      })
      const upgrades = new WebSocketServer({ noServer: true })
      listening.on('upgrade', (request, socket, head) => {
        if (double.noWebsocket) return void socket.end('HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
        signedCaller(request, new Uint8Array(0), false).then((caller) => {
          if (double.refusal !== null || !caller.ok) {
            const body = JSON.stringify({ code: double.refusal ?? (caller.ok ? '' : caller.code) })
            socket.end(`HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`)
            return
          }
          upgrades.handleUpgrade(request, socket, head, (opened) => meet(opened, caller.caller.publicKeySpki))
        }, () => socket.destroy())
      })
      refuseUpgrades = upgrades
      server = listening
      // It comes back on this port: nobody else may be given it meanwhile.
      if (port === 0) port = await freePort(0, 'localhost')
      await new Promise<void>((resolve) => listening.listen(port, 'localhost', resolve))
    },
  }

  /** Challenge, answer, hello; then whatever the test says. */
  function meet(socket: WebSocket, publicKeySpki: Uint8Array<ArrayBuffer>): void {
    const challenge = newChallenge()
    let met: GatewaySocket | null = null
    let proved: Promise<boolean> = Promise.resolve(false)
    socket.on('error', () => socket.terminate())
    socket.on('message', (data: Buffer) => {
      const text = data.toString()
      if (text === 'ping') return socket.send('pong')
      const message = fromGateway.parse(JSON.parse(text))
      if (message.type === 'answer') proved = verifyAnswer(publicKeySpki, challenge, 'gateway', message.signature)
      else if (message.type === 'hello') {
        void proved.then((right) => {
          if (!right) return socket.terminate()
          let told = ''
          const continued = (each: Extract<Told, { type: 'current' }>) => {
            const after = told
            told = each.revision
            return { after, ...each }
          }
          met = { socket, hello: message, said: [], tell: (...messages) => socket.send(JSON.stringify(messages.map((each) => (each.type === 'current' ? continued(each) : each)))) }
          sockets.push(met)
          double.onHello(met)
        }).catch(() => socket.terminate())
      } else met?.said.push(message)
    })
    socket.send(JSON.stringify([{ type: 'challenge', challenge }]))
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const body = Uint8Array.from(Buffer.concat(chunks))
    const json = (body.length === 0 ? {} : JSON.parse(Buffer.from(body).toString())) as { challenge?: string; csr?: string; join_code?: string }
    const { pathname, searchParams } = new URL(request.url ?? '', 'https://localhost')
    if (pathname === introduce.path && json.challenge !== undefined) {
      const said = { challenge: json.challenge, authority: request.headers.host ?? '', emsSerial: 'SPEMS0123456789AB', emsTime: Date.now(), certificates: [authority.certificatePem] }
      return void reply(response, 200, { document: await signDocument({ kind: 'introduction', to: '*', version: Date.now(), body: said }, await double.introducedBy()) })
    }
    const caller = await signedCaller(request, body, pathname === fabric.joinInit.path)
    if (!caller.ok) return void reply(response, 401, problem(caller.code))
    if (double.refusal !== null) return void reply(response, 403, problem(double.refusal))
    const authorities = () => signDocument({ kind: 'authorities', to: SERIAL, version: Date.now(), body: { certificates: [authority.certificatePem] } }, signer)
    const certify = async (csr: string) => {
      const read = await readCsr(csr)
      if (read === null) throw new Error('no CSR')
      return (await issueCertificate({ authority, publicKeySpki: read.publicKeySpki, purpose: 'gateway', commonName: SERIAL, now: Date.now() })).pem
    }
    if (pathname === fabric.joinInit.path && json.csr !== undefined) {
      const fingerprint = await keyFingerprint(caller.caller.publicKeySpki)
      double.inits.push({ joinCode: json.join_code, fingerprint })
      const { state, reason } = double.joining
      return void reply(response, 200, {
        result: ok, data: { result: ok, serial: SERIAL, state, reason, fingerprint, ...(state === 'authorised' ? { certificate: await certify(json.csr), authorities: await authorities() } : {}) },
      })
    }
    if (pathname === fabric.renewGateway.path && json.csr !== undefined) {
      double.renewals++
      return void reply(response, 200, { certificate: await certify(json.csr), authorities: await authorities() })
    }
    if (pathname === fabric.status.path) {
      const asked = json as Record<string, { version: { updated_after: string } }>
      const held = Object.fromEntries(Object.entries(asked).map(([name, { version }]) => [name, version.updated_after]))
      double.reads.push('status')
      const told = await double.status(held)
      return void reply(response, 200, { result: ok, data: { data: {}, ...told } })
    }
    const table = pathname === fabric.sysinfo.get.path ? 'sysinfo' : pathname === fabric.uidTags.get.path ? 'uid_tags' : 'host_tags'
    double.reads.push(`${table}?${searchParams.toString()}`)
    if (table === 'host_tags') return void reply(response, 200, { result: ok, data: { ems_version: '0', data: double.hostTags } })
    const { rows, ...page } = await (table === 'sysinfo' ? double.sysinfo : double.uidTags)(searchParams)
    reply(response, 200, { result: ok, data: { is_final: true, is_zipped: false, unzipped_size: 0, is_snapshot: false, ...page, data: table === 'sysinfo' ? rows : { uid_tag_lists: rows } } })
  }
  await double.start()
  return double
}

const problem = (code: Fault['code']) => ({ result: { retval: -2 }, data: null, problem: { type: `urn:sallyport:fault:${code}`, title: code, status: 403, code, detail: `refused: ${code}` } })

/** A watermark of the log. */
export const mark = (revision: number): string => `${revision}.${String(revision).padStart(16, '0')}`
export const uidOf = (number: number): string => number.toString(16).padStart(32, '0')
export const certificateSerialOf = (number: number): string => number.toString(16).toUpperCase().padStart(40, '0')

/** A sysinfo row of a registered endpoint with one agent certificate. */
export const systemRow = (number: number, over: Partial<SysinfoRecord> = {}): SysinfoRecord => ({
  uid: uidOf(number), sysinfo_update_time: 1, is_registered: true, online: true, onnet: false, quarantined: false, hostname: `laptop-${number}`, domain: '', user_name: '',
  user_info: { user_ext_name: '', user_email: '', service: '', phone: '', user_office: '', user_country: '', user_city: '', user_title: '', user_department: '', user_company: '', user_manager: '', employee_id: '', user_group_name: '' },
  social_ids: [], client_certs: [{ sn: certificateSerialOf(number), purpose: 'agent', user: '', not_after: 4_000_000_000 }],
  avatar_fingerprint: '', os_type: 'linux', os_ver: '', fct_ver: [0, 1, 0], fct_build_no: 0, fct_sn: '', client_cert_sn: certificateSerialOf(number), ip: '', public_ip: '', mac: '', mac_list: [], vdom: 'root',
  gateway_route_list: [], group_name: '', hardware_sn: '', host_manufacturer: '', host_model: '', cpu: '', memory: '', av_running: false, vuln_scan_running: false,
  feature_av: '', feature_fw: '', feature_wf: '', feature_as: '', feature_vpn: '', feature_vs: '', vuln_stats: { scan_time: 0, critical: 0, high: 0, medium: 0, low: 0, info: 0 }, ...over,
})
export const HEALTHY = '00000000-0000-4000-8000-000000000001'
export const tagsRow = (tags: readonly string[], unknown: string[] = []): UidTags => ({
  members: tags.map((tag) => ({ tag_uid: tag, tag_name: 'healthy', tag_properties: { name: 'healthy', type: 1, detection_level: '', description: '' }, valid_until: null })),
  unknown, valid_until: null, host_tag_update_time: 1,
})
export const rowsOf = <R>(numbers: readonly number[], row: (number: number) => R): Record<string, R> => Object.fromEntries(numbers.map((number) => [uidOf(number), row(number)]))
