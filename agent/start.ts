// The running agent as a value: posture is reported, documents are applied, the channel is open, the local proxy runs, until it is closed or let go.
import { resolve } from 'node:path'
import type { Log } from '../node/logging.ts'
import { Fault } from '../protocol/faults.ts'
import { PROTOCOL } from '../protocol/ids.ts'
import type { DocumentVersions } from '../protocol/documents.ts'
import { documents as fetchDocuments, ownTags, putAvatar, report } from '../protocol/operations/endpoint.ts'
import { watchTargets } from '../domain/tagging/agent-rules.ts'
import { nothingToWatch } from '../domain/tagging/device.ts'
import { forgetEnrolment, readIdentity, readLetGo, stateFiles } from './certificates/identity-store.ts'
import { keepCertificate } from './certificates/keep-certificate.ts'
import { createControl } from './control.ts'
import { explain } from './explain.ts'
import { keepTunnel, type TunnelState } from './keep-tunnel.ts'
import { serveStatus, type AgentStatus } from './local-status.ts'
import { createAnswers } from './posture/answers.ts'
import { createDevice } from './posture/device.ts'
import { osTypeHere } from './posture/portable.ts'
import { probesHere } from './posture/probes.ts'
import { scheduleProbes } from './posture/schedule.ts'
import { userFile, type Picture } from './posture/user.ts'
import { createWatch } from './posture/watch.ts'
import { openDocumentStore, type StandingKind } from './profile/document-store.ts'
import { openChannel, type ChannelState } from './telemetry/channel.ts'
import { createReporter, type FaultAnswer, type ReportSent } from './telemetry/reporter.ts'
import { openTelemetryState } from './telemetry/telemetry-state.ts'
import type { Denial } from './tunnel/denial.ts'
import { AGENT_VERSION } from './version.ts'

/** What an agent tells of itself while it runs; also logged. */
export type AgentEvent =
  | ReportSent
  | { readonly event: 'channel'; readonly state: ChannelState }
  | { readonly event: 'tunnel'; readonly state: TunnelState }
  | { readonly event: 'document-applied'; readonly kind: StandingKind }
  | { readonly event: 'denied'; readonly denial: Denial }
  | { readonly event: 'certificate-renewed'; readonly serial: string }
  | { readonly event: 'let-go'; readonly reason: string }

export interface AgentOptions {
  readonly stateDirectory: string
  readonly log: Log
  readonly now: () => number
  readonly onEvent?: (event: AgentEvent) => void
  /** Where the machine's file system begins; `/` unless said. */
  readonly root?: string
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

const NETWORK_SECONDS = 5
const SHOWN_DENIALS = 20

/** Starts the agent that is enrolled in this state directory. Throws a `Fault` `not_found` when none is. */
export async function startAgent({ stateDirectory: directory, log, now, onEvent = () => undefined, root = '/' }: AgentOptions): Promise<RunningAgent> {
  const stateDirectory = resolve(directory)
  const files = stateFiles(stateDirectory)
  const letGoBefore = await readLetGo(stateDirectory)
  const kept = await readIdentity(stateDirectory)
  if (letGoBefore !== null && kept !== null && letGoBefore.uid === kept.uid) await forgetEnrolment(stateDirectory, letGoBefore)
  if (kept === null || letGoBefore?.uid === kept.uid) throw new Fault('not_found', 'This machine is not enrolled; run `enrol INVITATION` first.')
  const { uid, ems, ownerUid } = kept

  const end = Promise.withResolvers<'closed' | 'deregistered'>()
  // Whoever never looks at how it ended must not be told by the process falling over.
  end.promise.catch(() => undefined)
  let ending = false
  const defect = (cause: unknown): void => {
    if (!ending) log.fatal({ event: 'defect', reason: cause instanceof Error ? cause.stack : String(cause) }, 'The agent is defective here; it stops.')
    void stop().finally(() => end.reject(cause))
  }
  const tell = (event: AgentEvent): void => {
    log.info(event, sentences[event.event])
    onEvent(event)
  }

  const control = createControl({ ems, identity: () => certificate.identity(), tlsCa: kept.tlsCa, action: 'deny', now, log })
  const store = await openDocumentStore({ file: files.documents, uid, now: control.emsNow })
  control.setInvalidCertificateAction(store.settings().invalidCertificateAction)
  const telemetry = await openTelemetryState(files.telemetry)
  const certificate = keepCertificate({
    directory: stateDirectory, identity: kept, control, authorities: store.trusted, log, onDefect: defect,
    takeAuthorities: async (document) => { await takeDocument(document) },
    onRenewed(serial) {
      tell({ event: 'certificate-renewed', serial })
      reporter.flush() // the first request signed with the new certificate retires the old
    },
  })

  // ── what the EMS says ──
  async function takeDocument(jws: string): Promise<void> {
    const taken = await store.take(jws)
    if (!taken.ok) {
      if (taken.reason !== 'older') log.warn({ event: 'document-refused', reason: taken.reason }, 'A document was refused.')
    } else if (taken.kind === 'deregistration') letGo(taken.reason)
  }
  let fetching: Promise<void> | null = null
  async function fetchNewer(): Promise<void> {
    const { documents } = await control.client().call(fetchDocuments, { body: { have: store.versions() } })
    for (const document of documents) await takeDocument(document)
  }
  /** Versions that were fetched: a kind of which there is no document for us is not asked for again and again. */
  let fetched: DocumentVersions = store.versions()
  function noteVersions(theirs: DocumentVersions): void {
    const held = store.versions()
    const kinds = Object.keys(theirs) as (keyof DocumentVersions)[]
    if (fetching !== null || !kinds.some((kind) => theirs[kind] > Math.max(held[kind], fetched[kind]))) return
    fetching = fetchNewer().then(() => { fetched = theirs }, async (cause: unknown) => {
      if (!(cause instanceof Fault)) return defect(cause)
      log.warn({ event: 'documents-not-fetched', fault: cause.code, reason: cause.message }, 'Newer documents could not be fetched; they are asked for with the next report.')
      await answerFault(cause)
    }).finally(() => { fetching = null })
  }
  async function answerFault(fault: Fault): Promise<FaultAnswer> {
    if (fault.code === 'deregistered' && fault.extras.document !== undefined) await takeDocument(fault.extras.document)
    if (ending) return 'stop'
    if (fault.code === 'certificate_expired' || fault.code === 'certificate_revoked') return await certificate.renew() ? 'again' : 'later'
    return 'later'
  }

  const reporter = createReporter({
    state: telemetry, now: control.emsNow, log, onSent: tell, onVersions: noteVersions, onFault: answerFault, onDefect: defect,
    send: (body) => control.client().call(report, { body }),
  })

  // ── what the machine shows ──
  const processes = osTypeHere() === 'linux'
  const answer = createAnswers({
    device: createDevice(root, now), rules: () => store.current('rules'), previous: telemetry.answers, processes, now: control.emsNow,
    async onAnswers(answers, changedAt) {
      reporter.hold('verdicts', { answers }, changedAt)
      if (!ending && JSON.stringify(answers) !== JSON.stringify(telemetry.answers())) await telemetry.keep({ answers })
    },
  })
  const uploaded = new Set<string>()
  async function upload({ fingerprint, mediaType, bytes }: Picture): Promise<boolean> {
    if (uploaded.has(fingerprint)) return true
    try {
      await control.client().call(putAvatar, { body: { mediaType, image: bytes.toString('base64') } })
      uploaded.add(fingerprint)
    } catch (cause) {
      if (!(cause instanceof Fault)) throw cause
      log.warn({ event: 'avatar-not-sent', fault: cause.code }, 'The user\'s picture could not be sent; it is tried again with the next look.')
    }
    return uploaded.has(fingerprint)
  }
  const commands = new AbortController()
  const schedule = scheduleProbes({
    probes: probesHere({ root, stateDirectory, ownerUid, maySet: () => store.settings().userMaySet, upload, now: control.emsNow, signal: commands.signal }),
    everySeconds: (cadence) => (cadence === 'network' ? NETWORK_SECONDS : store.settings().cadenceSeconds[cadence]),
    onFound: (section, value) => reporter.hold(section, value), log, onDefect: defect,
  })
  const watch = createWatch({
    root, processes,
    onChange({ kind, name }) {
      const noticedAt = control.emsNow()
      log.debug({ event: 'change-noticed', kind, name }, 'Something watched has changed.')
      if (kind === 'file' && name === userFile(stateDirectory)) void schedule.look('user').catch(defect)
      else void answer(noticedAt).catch(defect)
    },
  })
  const retarget = () => {
    const rules = store.current('rules')
    const targets = rules === null ? nothingToWatch : watchTargets(rules)
    watch.retarget({ ...targets, files: [...targets.files, userFile(stateDirectory)] })
  }
  const holdAgent = () => reporter.hold('agent', { version: AGENT_VERSION, protocol: PROTOCOL, profileVersion: store.versions().profile, rulesVersion: store.versions().rules })
  const checkNow = async (): Promise<void> => {
    await Promise.all([schedule.look(), answer()])
    reporter.flush()
  }
  // A symbolic link to elsewhere, a file system without events: the net below the events.
  const recheck = setInterval(() => void answer().catch(defect), 60_000)
  recheck.unref()

  const settingsListeners = new Set<() => void>()
  store.onChange((kind) => {
    tell({ event: 'document-applied', kind })
    if (kind === 'rules') {
      retarget()
      void answer().catch(defect)
    } else if (kind === 'profile') {
      control.setInvalidCertificateAction(store.settings().invalidCertificateAction)
      for (const listener of settingsListeners) listener()
      void schedule.look('user').catch(defect)
    }
    if (kind === 'rules' || kind === 'profile') holdAgent()
  })

  // ── what the user gets ──
  const tunnel = await keepTunnel({
    settings: () => (store.current('profile') === null ? null : store.settings()),
    onSettings(listener) {
      settingsListeners.add(listener)
      return () => { settingsListeners.delete(listener) }
    },
    identity: () => certificate.identity(), authorities: store.authorities, ownerUid, log, now: control.emsNow, onDefect: defect,
    onState: (state) => tell({ event: 'tunnel', state }), onDenial: (denial) => tell({ event: 'denied', denial }),
  })
  async function status(): Promise<AgentStatus> {
    const profile = store.current('profile')
    const tags = await control.client().call(ownTags, {}).then((told) => told.tags.map(({ tag, state }) => ({ tag, state })), (cause: unknown) => {
      if (cause instanceof Fault) return null
      throw cause
    })
    return {
      enrolled: true, uid, ems, version: AGENT_VERSION, certificate: { serial: certificate.identity().serial, notAfter: certificate.identity().notAfter },
      profile: profile === null ? null : { ...profile.profile, policy: profile.policy.name, version: store.versions().profile }, licence: store.current('licence'),
      channel: channel.state(), lastReportAt: reporter.lastTaken(), sequence: telemetry.sequence(), clockOffsetMs: control.client().offset(),
      tunnel: tunnel.state(), tags, denials: tunnel.denials().slice(0, SHOWN_DENIALS),
    }
  }
  const local = await serveStatus(stateDirectory, (question) => (question.ask === 'status' ? status() : explain(question.subject, { client: control.client(), denials: tunnel.denials() })))

  // ── end ──
  let stopping: Promise<void> | null = null
  const stop = (): Promise<void> => {
    ending = true
    stopping ??= (async () => {
      channel.close()
      watch.close()
      clearInterval(recheck)
      commands.abort()
      // The proxy first: what was allowed by an enrolment must not outlive it.
      await tunnel.close()
      await control.close()
      await Promise.all([reporter.close(), certificate.close(), schedule.close(), local.close(), fetching])
    })()
    return stopping
  }
  function letGo(reason: string): void {
    if (ending) return
    // Not awaited here: this may run inside a report, which has to end first.
    void stop().then(() => forgetEnrolment(stateDirectory, { uid, ems, reason, at: Math.max(0, Math.round(now())) })).then(() => {
      tell({ event: 'let-go', reason })
      end.resolve('deregistered')
    }).catch(end.reject)
  }

  retarget()
  holdAgent()
  await Promise.all([schedule.look(), answer()])
  const channel = openChannel({
    client: control.client, privateKey: () => certificate.identity().privateKey, versions: store.versions, log,
    onMessage(message) {
      if (message.type === 'report-now') void checkNow().catch(defect)
      else void takeDocument(message.document).catch(defect)
    },
    onOpen: reporter.flush, onRefused: reporter.flush, onState: (state) => tell({ event: 'channel', state }),
  })
  reporter.flush()
  return {
    uid, status, checkNow, tunnel: tunnel.state, ended: end.promise,
    async close() {
      await stop()
      end.resolve('closed')
    },
  }
}

const sentences: Record<AgentEvent['event'], string> = {
  'report-sent': 'A report is on its way.', 'channel': 'The endpoint channel changed its state.', 'tunnel': 'The local proxy changed its state.',
  'document-applied': 'A document was applied.', 'denied': 'A gateway refused a connection.', 'certificate-renewed': 'The certificate was renewed.',
  'let-go': 'This machine is no longer managed: certificate, key, profile and proxy are gone.',
}
