// What an agent tells of itself while it runs, to its log and to whoever started it.
import type { StandingKind } from './profile/document-store.ts'
import type { ChannelState } from './telemetry/channel.ts'
import type { ReportSent } from './telemetry/reporter.ts'
import type { TunnelState } from './keep-tunnel.ts'
import type { Denial } from './tunnel/denial.ts'

export type AgentEvent =
  | ReportSent
  | { readonly event: 'channel'; readonly state: ChannelState }
  | { readonly event: 'tunnel'; readonly state: TunnelState }
  | { readonly event: 'document-applied'; readonly kind: StandingKind }
  | { readonly event: 'denied'; readonly denial: Denial }
  | { readonly event: 'certificate-renewed'; readonly serial: string }
  | { readonly event: 'browser-certificate'; /** Directory of the browser's database. */ readonly store: string; readonly serial: string }
  | { readonly event: 'signed-in'; readonly provider: string; readonly subject: string }
  | { readonly event: 'signed-out' }
  | { readonly event: 'let-go'; readonly reason: string }

/** The sentence of each event in the log. */
export const sentences: Record<AgentEvent['event'], string> = {
  'report-sent': 'A report is on its way.', 'channel': 'The endpoint channel changed its state.', 'tunnel': 'The local proxy changed its state.',
  'document-applied': 'A document was applied.', 'denied': 'A gateway refused a connection.', 'certificate-renewed': 'The certificate was renewed.',
  'browser-certificate': 'A certificate is in a browser\'s database.',
  'signed-in': 'A person has signed in.', 'signed-out': 'The person who was signed in has signed out.',
  'let-go': 'This machine is no longer managed: certificate, key, profile and proxy are gone.',
}
