// What the agent reports of itself: its version, the documents it runs, and which of its features are in effect, not merely asked for.
import type { DocumentVersions } from '../../protocol/documents.ts'
import type { Sections } from '../../protocol/facts.ts'
import { PROTOCOL } from '../../protocol/ids.ts'
import type { ProfileSettings } from '../../protocol/profile.ts'
import { AGENT_VERSION } from '../version.ts'

/** Features that rules may ask for; each says when it is on. */
const features: Readonly<Record<string, (settings: ProfileSettings | null, proxyRuns: boolean) => boolean>> = {
  'browser-certificates': (settings) => (settings?.browserServices.length ?? 0) > 0,
  'local-proxy': (_, proxyRuns) => proxyRuns,
  'tunnel': (settings, proxyRuns) => proxyRuns && (settings?.destinations.length ?? 0) > 0,
  'verified-ems': (settings) => settings?.invalidCertificateAction === 'deny',
}

/** @param settings of the profile; null when there is none */
export const agentSection = (versions: DocumentVersions, settings: ProfileSettings | null, proxyRuns: boolean): Sections['agent'] => ({
  version: AGENT_VERSION, protocol: PROTOCOL, profileVersion: versions.profile, rulesVersion: versions.rules,
  features: Object.entries(features).filter(([, isOn]) => isOn(settings, proxyRuns)).map(([name]) => name),
})
