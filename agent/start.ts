// The running agent as a value: posture is reported, documents are applied, the channel is open, the local proxy runs, until it is closed or let go.
import { join, resolve } from 'node:path'
import { introduceEms } from '../node/introduce.ts'
import type { Log } from '../node/logging.ts'
import { CHANNEL_SUBPROTOCOL } from '../protocol/channel.ts'
import type { Fault } from '../protocol/faults.ts'
import { channel as channelOperation, documents as fetchDocuments, putAvatar, report } from '../protocol/operations/endpoint.ts'
import { sentences, type AgentEvent } from './agent-event.ts'
import { answerLine } from './answer-line.ts'
import { keepBrowsers, type KeptBrowsers } from './certificates/browsers/keep-browsers.ts'
import { letGoOfBrowsers } from './certificates/browsers/remove.ts'
import { storesHere } from './certificates/browsers/stores-here.ts'
import { enrolledIdentity } from './certificates/enrolled-identity.ts'
import { forgetEnrolment, noteLetGo, stateFiles, type AgentIdentity } from './certificates/identity-store.ts'
import { keepCertificate } from './certificates/keep-certificate.ts'
import { createControl } from './control.ts'
import { keepFile } from './kept-file.ts'
import { keepTunnel, type TunnelState } from './keep-tunnel.ts'
import { createLife, type Life } from './life.ts'
import { serveStatus, type AgentStatus } from './local-status.ts'
import { observeMachine, type ObserveOptions } from './posture/observe.ts'
import { createPictures } from './posture/pictures.ts'
import { openDocumentStore, type StoredDocuments } from './profile/document-store.ts'
import { followDocuments } from './profile/follow-documents.ts'
import { lockState } from './state-lock.ts'
import { agentSection } from './telemetry/agent-section.ts'
import { openChannel, type Channel } from './telemetry/channel.ts'
import { keepFresh } from './telemetry/keep-fresh.ts'
import { createReporter } from './telemetry/reporter.ts'
import type { FaultAnswer } from './telemetry/retry.ts'
import { openTelemetryState } from './telemetry/telemetry-state.ts'
import { tellStatus } from './tell-status.ts'
import { holdingTimers, systemTimers, type Timers } from '../node/timers.ts'
import { createTroubles } from './troubles.ts'
import { pacPath } from './tunnel/pac.ts'
import { createRevocations } from './tunnel/revocations.ts'
import { restoreMachine, type TransparentPlace } from './tunnel/transparent/mark.ts'

export type { AgentEvent } from './agent-event.ts'
export interface AgentOptions {
  readonly stateDirectory: string
  readonly log: Log
  /** ms, this machine's clock */
  readonly now: () => number
  readonly onEvent?: (event: AgentEvent) => void
  /** Where the machine's file system begins; `/` unless said. */
  readonly root?: string
  /** The home whose browsers get a certificate, for an agent of the user's own; the account's unless said. */
  readonly home?: string
  /** Programs without proxy settings are served whatever the profile says; else as it says. */
  readonly transparent?: boolean
  /** Runs a probe's command; the system's own unless said. */
  readonly command?: ObserveOptions['command']
  readonly timers?: Timers
  /** 0 ≤ x < 1: when to fetch what every agent fetches, and to come back to an EMS that was away. */
  readonly random?: () => number
}
export interface RunningAgent {
  readonly uid: string
  status(): Promise<AgentStatus>
  /** Ports of the local proxy, or why there are none. */
  tunnel(): TunnelState
  /** Looks at everything now and reports. */
  checkNow(): Promise<void>
  /** How it ended; rejects when the agent itself is defective. */
  readonly ended: Promise<'closed' | 'deregistered'>
  close(): Promise<void>
}

/** Starts the agent that is enrolled in this state directory. Throws a `Fault` `not_found` when none is, and a sentence when another agent runs with it. */
export async function startAgent(options: AgentOptions): Promise<RunningAgent> {
  const stateDirectory = resolve(options.stateDirectory)
  const lock = await lockState(stateDirectory)
  const life = createLife({ release: lock.release, timers: holdingTimers, log: options.log })
  try {
    const agent = await begin({ ...options, stateDirectory }, await enrolledIdentity(stateDirectory, async () => {
      await letGoOfBrowsers({ ...options, stateDirectory })
      const reason = await restoreMachine(transparentPlace(stateDirectory, options.root))
      if (reason !== null) throw new Error(`What the agent changed on this machine could not be put back: ${reason}`)
    }), life)
    // Defective or let go before it was up: there is nothing to hand out.
    if (life.isEnding()) throw new Error(`the agent ended while it was starting (${await life.ended})`)
    return agent
  } catch (cause) {
    await life.finish('closed')
    throw cause
  }
}

const transparentPlace = (stateDirectory: string, root = '/'): TransparentPlace => ({ hostsFile: join(root, 'etc/hosts'), marker: join(stateDirectory, 'machine.changed') })

async function begin({ stateDirectory, log, now, onEvent = () => undefined, root = '/', home, transparent = false, command, timers = systemTimers, random = Math.random }: AgentOptions, kept: AgentIdentity, life: Life): Promise<RunningAgent> {
  const { uid, ems, pin, ownerUid } = kept
  const files = stateFiles(stateDirectory)
  const troubles = createTroubles(log, now)
  let channel: Channel | null = null
  let browsers: KeptBrowsers | null = null
  const tell = (event: AgentEvent): void => {
    log.info(event, sentences[event.event])
    onEvent(event)
  }
  const defect = (cause: unknown): void => { void life.finish({ defect: cause }) }
  function letGo(reason: string): void {
    if (life.isEnding()) return
    const record = { uid, ems, reason, at: Math.max(0, Math.round(now())) }
    // Not awaited here: this may run inside a report, which has to end first. Noted before all: a crash from here on is finished by the next start.
    void life.finish('deregistered', { before: () => noteLetGo(stateDirectory, record), after: () => forgetEnrolment(stateDirectory, record).then(() => letGoOfBrowsers({ stateDirectory, root, home, log })).then(() => { tell({ event: 'let-go', reason }) }) })
  }

  // ── what is remembered, and who speaks ──
  const keep = <T>(path: string) => {
    const file = keepFile<T>({ path, timers, troubles, onDefect: defect })
    life.begun(file.close)
    return file
  }
  const telemetry = await openTelemetryState(files.telemetry, keep(files.telemetry))
  const control = createControl({ ems, identity: () => certificate.identity(), tlsCa: kept.tlsCa, action: 'deny', now, log })
  const documentsFile = keep<StoredDocuments>(files.documents)
  const store = await openDocumentStore({ file: files.documents, uid, now: control.emsNow, write: documentsFile.write })
  life.begun(store.close)
  control.setInvalidCertificateAction(store.settings().invalidCertificateAction)
  const followed = followDocuments({
    store, log, troubles, onDeregistration: letGo, onFault: answerFault, onDefect: defect,
    fetch: async (have) => (await control.client().call(fetchDocuments, { body: { have } })).documents,
    introduce: async () => (await introduceEms(control.client(), { ems, pin })).certificates,
  })
  life.begun(followed.settled)
  const certificate = keepCertificate({
    directory: stateDirectory, identity: kept, client: control.client, now: control.emsNow, authorities: store.trusted, takeAuthorities: followed.take, timers, troubles, log, onDefect: defect,
    onRenewed(serial) {
      tell({ event: 'certificate-renewed', serial })
      reporter.flush() // the first request signed with the new certificate retires the old
    },
  })
  life.begun(certificate.close)
  async function answerFault(fault: Fault): Promise<FaultAnswer> {
    if (fault.code === 'deregistered' && fault.extras.document !== undefined) await followed.take(fault.extras.document)
    if (life.isEnding()) return 'stop'
    if (fault.code === 'certificate_expired' || fault.code === 'certificate_revoked') return await certificate.renew() ? 'again' : 'later'
    return 'later'
  }

  // ── what is reported ──
  const pictures = createPictures({
    ownerUid, log, put: ({ mediaType, bytes }) => control.client().call(putAvatar, { body: { mediaType, image: bytes.toString('base64') } }),
    onRefused: () => { observed.look('user').catch(defect) },
  })
  const reporter = createReporter({
    state: telemetry, now: control.emsNow, timers, troubles, log, onSent: tell, onVersions: followed.note, onFault: answerFault, onDefect: defect, demands: () => store.current('rules')?.fresh ?? {},
    async send(body) {
      if (body.sections.user?.avatarFingerprint !== undefined) await pictures.deliver(body.sections.user.avatarFingerprint)
      const [keeper, asked] = [browsers, browsers?.asking() ?? 0]
      const reply = await control.client().call(report, { body })
      if (reply.browserCertificates !== undefined) keeper?.told(asked, reply.browserCertificates)
      return reply
    },
  })
  life.begun(reporter.close)
  life.begun(control.close)
  const observed = observeMachine({
    root, stateDirectory, ownerUid, documents: store, telemetry, pictures, now: control.emsNow, timers, troubles, log, onDefect: defect, command,
    hold(section, value, changedAt, lookedAt) {
      // Another network: what waits because the EMS could not be reached is tried now.
      if (reporter.hold(section, value, changedAt, lookedAt) && section === 'network' && channel?.state() === 'waiting') {
        reporter.flush()
        channel.hurry()
      }
    },
  })
  life.begun(observed.close)
  let proxyRuns = false
  const holdAgent = () => reporter.hold('agent', agentSection(store.versions(), store.current('profile') === null ? null : store.settings(), proxyRuns))
  const checkNow = async (): Promise<void> => {
    // First: the reply tells of newer documents, and an edit of the rules must not wait for the probes. What they find is reported when they find it.
    reporter.flush()
    await observed.look()
  }

  // ── what the user gets ──
  const revocations = createRevocations({
    list: () => store.current('authorities')?.crl ?? [], onList: (listener) => store.onChange((kind) => { if (kind === 'authorities') listener() }),
    onMet: (gateways) => (gateways.length === 0 ? troubles.clear('gateways') : troubles.raise('gateways', `The EMS has revoked the certificate of ${gateways.length === 1 ? 'gateway' : 'the gateways'} ${gateways.join(', ')}: connections through it were cut, and no new one is made while it shows that certificate. If it should serve, ask an administrator to authorise it anew.`)),
  })
  const tunnel = await keepTunnel({
    settings: () => (store.current('profile') === null ? null : store.settings()),
    onSettings: (listener) => store.onChange((kind) => { if (kind === 'profile') listener() }),
    identity: () => certificate.identity(), authorities: store.authorities, revocations, renew: certificate.renew, pacPath: await pacPath(files.pac), ownerUid, log, now: control.emsNow, timers, onDefect: defect,
    transparent: { ...transparentPlace(stateDirectory, root), isAsked: transparent, ems: new URL(ems).hostname, onDefect: defect },
    onState(state) {
      tell({ event: 'tunnel', state })
      proxyRuns = state.running
      holdAgent()
    },
    onDenial: (denial) => tell({ event: 'denied', denial }),
  })
  // The proxy before the rest: what was allowed by an enrolment must not outlive it.
  life.begun(tunnel.close)
  browsers = keepBrowsers({
    stateDirectory, uid, ownerUid, services: () => store.settings().browserServices, onSettings: (listener) => store.onChange((kind) => { if (kind === 'profile') listener() }), stores: (owner) => storesHere({ ownerUid: owner, root, home }),
    client: control.client, authorities: store.trusted, now: control.emsNow, timers, troubles, onFault: answerFault, onDefect: defect, onPlaced: (at, serial) => tell({ event: 'browser-certificate', store: at, serial }),
  })
  life.begun(browsers.close)
  const status = () => tellStatus({ identity: certificate.identity, store, control, channel: () => channel?.state() ?? 'connecting', reporter, telemetry, tunnel, troubles, timers })
  const local = await serveStatus(stateDirectory, answerLine({ status, identity: certificate.identity, control, tunnel, tell }), ownerUid)
  life.begun(local.close)

  // ── what the EMS changes ──
  const fresh = keepFresh({
    demands: () => store.current('rules')?.fresh ?? {}, knownAt: reporter.knownAt, now: control.emsNow, timers, random, onDefect: defect,
    look: (section) => (section === 'agent' ? Promise.resolve(void holdAgent()) : observed.look(section)),
  })
  life.begun(fresh.close)
  store.onChange((kind) => {
    tell({ event: 'document-applied', kind })
    if (kind === 'rules') {
      observed.rulesChanged()
      fresh.rearm()
    } else if (kind === 'profile') {
      // A socket that was forgiven must not outlive the forgiveness either.
      if (control.setInvalidCertificateAction(store.settings().invalidCertificateAction)) channel?.reopen()
      observed.profileChanged()
    }
    if (kind === 'rules' || kind === 'profile') holdAgent()
  })
  holdAgent()
  await observed.look()
  channel = openChannel({
    open: () => control.client().openSocket(channelOperation, CHANNEL_SUBPROTOCOL), privateKey: () => certificate.identity().privateKey, versions: store.versions, timers, log, random,
    onMessage(message) {
      if (message.type === 'newer') timers.after(random() * message.spreadMs, () => { followed.note(message.versions) })
      else (message.type === 'report-now' ? checkNow() : followed.take(message.document)).catch(defect)
    },
    onOpen: reporter.flush, onRefused: reporter.flush, onState: (state) => tell({ event: 'channel', state }),
  })
  life.begun(channel.close)
  reporter.flush()
  return { uid, status, checkNow, tunnel: tunnel.state, ended: life.ended, close: () => life.finish('closed') }
}
