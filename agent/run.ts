// The running agent: documents, probes, watches, reports, channel, certificate and the local proxy, wired together.
import { answerConditions, watchTargets } from '../domain/tagging/agent-rules.ts'
import { createControlClient } from '../node/control-client.ts'
import { readJson, writeJson } from '../node/key-store.ts'
import type { Log } from '../node/logging.ts'
import { Fault } from '../protocol/faults.ts'
import type { SectionName } from '../protocol/facts.ts'
import { PROTOCOL } from '../protocol/ids.ts'
import { documents as documentsOperation, putAvatar } from '../protocol/operations/endpoint.ts'
import { profileSettings } from '../protocol/profile.ts'
import { openIdentity, renewIdentity } from './certificates/agent-identity.ts'
import { letGo } from './let-go.ts'
import { createDevice } from './posture/device.ts'
import { osTypeHere } from './posture/portable.ts'
import { probesHere } from './posture/probes.ts'
import { createWatch } from './posture/watch.ts'
import { claimedKind, openDocumentStore } from './profile/documents.ts'
import { enrolment as enrolmentShape, filesIn, reported as reportedShape } from './state.ts'
import type { Probes } from './telemetry/collect.ts'
import { openChannel } from './telemetry/channel.ts'
import { createReporter, type ReportSent } from './telemetry/reporter.ts'
import type { Denial } from './tunnel/denial.ts'
import { startTunnel } from './tunnel/start.ts'
import { AGENT_VERSION } from './version.ts'

export interface RunningAgent {
  readonly uid: string
  readonly httpPort: number
  readonly socksPort: number
  denials(): readonly Denial[]
  channelState(): string
  /** Resolves when the EMS has deregistered this device and the agent has let go. */
  readonly letGone: Promise<void>
  close(): Promise<void>
}
const MAX_DENIALS = 50
const RETRY_MS = 5_000
const NETWORK_MS = 5_000

/** Starts the agent of a state directory. Throws when the device is not enrolled. */
export async function runAgent(options: { directory: string; root?: string; now: () => number; log: Log; onSent?: (sent: ReportSent) => void }): Promise<RunningAgent> {
  const { directory, now, log } = options
  const root = options.root ?? '/'
  const files = filesIn(directory)
  const kept = await readJson(files.enrolment, enrolmentShape)
  if (kept === null) throw new Fault('not_found', 'This device is not enrolled: run `agent enrol INVITATION` first.')
  let enrolment = kept
  let identity = await openIdentity(directory, enrolment)
  const store = await openDocumentStore({ directory, uid: enrolment.uid, pin: enrolment.pin, now, log })
  const settings = () => store.current('profile')?.settings ?? profileSettings.parse({})
  const client = createControlClient({ ems: enrolment.ems, identity: () => identity, tlsCa: enrolment.tlsCa, invalidCertificateAction: settings().invalidCertificateAction, now, log })
  const reported = await readJson(files.reported, reportedShape) ?? { sequence: 0, hashes: {}, answers: {} }
  const device = createDevice(root, now)
  const probed = probesHere({
    root, stateDirectory: directory, ownerUid: enrolment.ownerUid, maySet: () => settings().userMaySet, now,
    async upload({ mediaType, bytes, fingerprint }) {
      return (await client.call(putAvatar, { body: { mediaType, image: bytes.toString('base64') } })).fingerprint === fingerprint
    },
  })
  const sectionsOf = (wanted: (each: (typeof probed)[number]) => boolean): SectionName[] => probed.filter(wanted).map(({ section }) => section)
  const rules = () => store.current('rules') ?? { revision: 0, conditions: [] }

  let closing = false
  const { promise: letGone, resolve: hasLetGo } = Promise.withResolvers<void>()
  /** Carries out a request; what ends or changes the agent's own standing is handled here, once. */
  const attempt = async (what: string, run: () => Promise<void>): Promise<void> => {
    if (closing) return
    try {
      await run()
    } catch (cause) {
      if (closing) return
      if (cause instanceof Fault && cause.code === 'deregistered' && cause.extras.document !== undefined && await store.isDeregistration(cause.extras.document)) return await deregistered()
      if (cause instanceof Fault && cause.code === 'certificate_expired') return await renewNow()
      log.warn({ event: `${what}-failed`, reason: cause instanceof Error ? cause.message : String(cause) }, 'It will be tried again.')
      setTimeout(() => { void attempt(what, run) }, RETRY_MS).unref()
    }
  }

  const reporter = createReporter({
    client, reported, log, now, onSent: options.onSent, keep: (state) => writeJson(files.reported, state),
    onDocuments(versions) {
      const held = store.versions()
      if ((Object.keys(versions) as (keyof typeof versions)[]).some((kind) => versions[kind] > held[kind])) void attempt('documents', fetchDocuments)
    },
    probes: {
      ...Object.fromEntries(probed.map(({ section, collect }) => [section, collect])) as Probes,
      agent: () => Promise.resolve({ version: AGENT_VERSION, protocol: PROTOCOL, profileVersion: store.versions().profile, rulesVersion: store.versions().rules }),
      verdicts: () => answerConditions(rules(), device, reported.answers, client.emsNow()),
    },
  })
  const check = (names: readonly SectionName[], at = now()) => attempt('report', () => reporter.check(names, at))
  const slow = sectionsOf((each) => each.slow === true)
  const quick: SectionName[] = ['verdicts', 'agent', ...sectionsOf((each) => each.slow !== true)]
  const checkSlow = () => attempt('inventory', () => reporter.checkSlowly(slow, now()))
  /** Slow probes run beside the others and never hold up a report. */
  const checkAll = async () => { await Promise.all([check(quick), checkSlow()]) }
  async function fetchDocuments(): Promise<void> {
    const { documents } = await client.call(documentsOperation, { body: { have: store.versions() } })
    for (const document of documents) await takeDocument(document)
  }
  async function takeDocument(document: string): Promise<void> {
    const kind = claimedKind(document)
    if (kind !== null) await store.take(kind, document)
    else if (await store.isDeregistration(document)) await deregistered()
  }

  const watching = createWatch({ root, processes: osTypeHere() === 'linux', onChange: () => { void check(['verdicts']) } })
  watching.retarget(watchTargets(rules()))
  const denials: Denial[] = []
  const settingsListeners = new Set<() => void>()
  const tunnel = await startTunnel({
    settings, onSettings: (listener) => { settingsListeners.add(listener); return () => { settingsListeners.delete(listener) } },
    identity: () => identity, authorities: () => store.authorities(), ownerUid: enrolment.ownerUid, log, now,
    onDenial(denial) {
      denials.push(denial)
      if (denials.length > MAX_DENIALS) denials.shift()
    },
  })
  store.onChange((kind) => {
    if (kind === 'profile') for (const listener of settingsListeners) listener()
    if (kind === 'rules') watching.retarget(watchTargets(rules()))
    void check(kind === 'rules' ? ['verdicts', 'agent'] : ['agent'])
  })
  const channel = openChannel({
    client, privateKey: () => identity.privateKey, versions: () => store.versions(), log,
    async onMessage(message) {
      if (message.type === 'welcome') await attempt('documents', fetchDocuments)
      else if (message.type === 'report-now') {
        await attempt('documents', fetchDocuments)
        await checkAll()
      } else if (message.type === 'document') await takeDocument(message.document)
    },
  })
  const timers = [
    setInterval(() => { void check(sectionsOf(({ cadence }) => cadence === 'network')) }, NETWORK_MS),
    setInterval(() => { void check(sectionsOf(({ cadence }) => cadence === 'security')) }, settings().cadenceSeconds.security * 1000),
    setInterval(() => { void checkAll() }, settings().cadenceSeconds.inventory * 1000),
    setInterval(() => { if (now() >= identity.renewAt) void attempt('renewal', renewNow) }, 60_000),
  ]
  for (const timer of timers) timer.unref()

  async function renewNow(): Promise<void> {
    const renewed = await renewIdentity({ directory, enrolment, client, log })
    enrolment = renewed.enrolment
    identity = renewed.identity
    await store.take('authorities', renewed.authorities)
  }
  async function close(): Promise<void> {
    closing = true
    for (const timer of timers) clearInterval(timer)
    watching.close()
    channel.close()
    await tunnel.close()
    await client.close()
  }
  async function deregistered(): Promise<void> {
    log.warn({ event: 'deregistered' }, 'This device is managed no more; the agent lets go of everything.')
    await close()
    await letGo(directory)
    hasLetGo()
  }

  void checkAll()
  return { uid: enrolment.uid, get httpPort() { return tunnel.httpPort }, get socksPort() { return tunnel.socksPort }, denials: () => denials, channelState: () => channel.state(), letGone, close }
}
