// What the running agent tells of itself when it is asked. The EMS is asked for the tags, but nobody waits for it long.
import type { ControlClient } from '../node/control-client.ts'
import { Fault } from '../protocol/faults.ts'
import { ownTags } from '../protocol/operations/endpoint.ts'
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
const TAGS_WITHIN_MS = 3_000

export async function tellStatus({ identity, store, control, channel, reporter, telemetry, tunnel, troubles, timers }: StatusSources): Promise<AgentStatus> {
  const { uid, ems, serial, notAfter } = identity()
  const profile = store.current('profile')
  return {
    enrolled: true, uid, ems, version: AGENT_VERSION, certificate: { serial, notAfter },
    profile: profile === null ? null : { ...profile.profile, policy: profile.policy.name, version: store.versions().profile }, licence: store.current('licence'),
    channel: channel(), lastReportAt: reporter.lastTaken(), sequence: telemetry.sequence(), clockOffsetMs: control.offset(),
    tunnel: tunnel.state(), pacUrl: tunnel.pacUrl(), transparent: tunnel.transparent(), tags: await tagsNow(control.client(), timers), denials: tunnel.denials().slice(0, SHOWN_DENIALS), troubles: [...troubles.all()],
  }
}

/** Names and states of this endpoint's tags; null when the EMS does not tell. */
async function tagsNow(client: ControlClient, timers: Timers): Promise<AgentStatus['tags']> {
  const { promise: late, resolve } = Promise.withResolvers<null>()
  const cancel = timers.after(TAGS_WITHIN_MS, () => resolve(null))
  const asked = client.call(ownTags, {}).then(({ tags }) => tags.map(({ tag, state }) => ({ tag, state })), (cause: unknown) => {
    if (cause instanceof Fault) return null
    throw cause
  })
  return await Promise.race([asked, late]).finally(cancel)
}
