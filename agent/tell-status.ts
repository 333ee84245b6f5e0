// What the running agent tells of itself when it is asked. The EMS is asked for the tags and for who is signed in, but nobody waits for it long.
import { Fault } from '../protocol/faults.ts'
import { ownTags } from '../protocol/operations/endpoint.ts'
import { ownIdentity } from '../protocol/operations/sign-in.ts'
import type { TagExplanation } from '../protocol/rules.ts'
import type { AgentIdentity } from './certificates/identity-store.ts'
import type { Control } from './control.ts'
import type { KeptTunnel } from './keep-tunnel.ts'
import type { AgentStatus } from './local-status.ts'
import type { DocumentStore } from './profile/document-store.ts'
import type { ChannelState } from './telemetry/channel.ts'
import type { Reporter } from './telemetry/reporter.ts'
import type { TelemetryState } from './telemetry/telemetry-state.ts'
import type { Timers } from '../node/timers.ts'
import type { Troubles } from './troubles.ts'
import { AGENT_VERSION } from './version.ts'

export interface StatusSources {
  readonly identity: () => AgentIdentity
  readonly store: DocumentStore
  readonly control: Control
  readonly channel: () => ChannelState
  readonly reporter: Reporter
  readonly telemetry: TelemetryState
  readonly tunnel: KeptTunnel
  readonly troubles: Troubles
  readonly timers: Timers
}

const SHOWN_DENIALS = 20
/** A person waits: what the EMS has not told by then is not known. */
const TOLD_WITHIN_MS = 3_000

/** Whether a condition on the verified user is among what keeps it from being present. */
const needsSignIn = ({ ruleSets }: TagExplanation): boolean => ruleSets.some(({ conditions }) => conditions.some(({ section, value, negate }) => section === 'identity' && value !== (negate ? 'false' : 'true')))

export async function tellStatus({ identity, store, control, channel, reporter, telemetry, tunnel, troubles, timers }: StatusSources): Promise<AgentStatus> {
  const { uid, ems, serial, notAfter } = identity()
  const profile = store.current('profile')
  const [tags, signedIn] = await Promise.all([
    unlessLate(timers, control.client().call(ownTags, {}).then((told) => told.tags.map((each) => ({ tag: each.tag, state: each.state, ...(each.state !== 'present' && needsSignIn(each) ? { needsSignIn: true as const } : {}) })))),
    // Whatever is kept here would miss a sign-out by an administrator, and its end.
    unlessLate(timers, control.client().call(ownIdentity, {})),
  ])
  return {
    enrolled: true, uid, ems, version: AGENT_VERSION, certificate: { serial, notAfter },
    profile: profile === null ? null : { ...profile.profile, policy: profile.policy.name, version: store.versions().profile }, licence: store.current('licence'),
    channel: channel(), lastReportAt: reporter.lastTaken(), sequence: telemetry.sequence(), clockOffsetMs: control.offset(),
    tunnel: tunnel.state(), pacUrl: tunnel.pacUrl(), transparent: tunnel.transparent(), tags, denials: tunnel.denials().slice(0, SHOWN_DENIALS), troubles: [...troubles.all()],
    identity: signedIn === null ? { state: 'unknown' } : signedIn.signedIn === null ? { state: 'nobody' } : { state: 'somebody', ...signedIn.signedIn },
  }
}

/** What the EMS tells; null when it does not, or not in time. */
async function unlessLate<T>(timers: Timers, told: Promise<T>): Promise<T | null> {
  const { promise: late, resolve } = Promise.withResolvers<null>()
  const cancel = timers.after(TOLD_WITHIN_MS, () => resolve(null))
  const answer = told.catch((cause: unknown) => {
    if (cause instanceof Fault) return null
    throw cause
  })
  return await Promise.race([answer, late]).finally(cancel)
}
