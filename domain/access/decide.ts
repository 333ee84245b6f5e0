// Decides whether a device may reach a service now, why, and until when that stands. Pure: whoever asks brings snapshot, policies and time.
import type { AccessProtocol, Reason } from '../../protocol/decisions.ts'
import type { VerifiedUser } from '../../protocol/identity.ts'
import type { Origin } from './geo.ts'
import { identify, peopleOf, type Identified, type Presented } from './identify.ts'
import { matchPolicies, type Shadow } from './match-policies.ts'
import { admitWithoutCertificate } from './no-certificate.ts'
import type { Policies } from './policies.ts'
import type { DecidingTag } from './policy.ts'
import type { Service } from './service.ts'
import { lookUpService } from './service-index.ts'
import type { Snapshot } from './snapshot.ts'
import { staleness } from './staleness.ts'

export interface AccessRequest {
  /** `recheck`: an open session is decided again. */
  readonly event: 'decide' | 'recheck'
  readonly protocol: AccessProtocol
  readonly host: string
  readonly port: number
  /** Of the request target, without its query; `/` for TCP and UDP. */
  readonly path: string
  /** As claimed; `''` when there is none. */
  readonly userAgent: string
  readonly certificate: Presented
  /** Where it connects from; asked for only where policies name countries. */
  readonly origin: Origin
  /** The EMS has been asked about this device already: what is still unknown is refused for good. */
  readonly asked: boolean
}

export interface Verdict {
  readonly allowed: boolean
  readonly reason: Reason
  readonly uid: string | null
  /** Who was vouched for on it, even if that has expired; null: nobody, or it was not asked. */
  readonly user: VerifiedUser | null
  readonly service: Service | null
  readonly policy: string | null
  readonly tags: readonly DecidingTag[]
  /** ms: the earliest instant at which it could change without news; null: never. */
  readonly validUntil: number | null
  /** What a report-only policy would have decided instead; null: none would have. */
  readonly shadow: Shadow | null
}

/** Whoever shows no certificate is let on as nobody, where the gateway takes such. */
function recognise({ certificate, protocol, event, asked, userAgent }: AccessRequest, service: Service | null, { snapshot, policies, now }: World): Identified | { readonly ok: true; readonly record: null; readonly until: number } {
  if (certificate.status === 'proved') return identify(certificate, { snapshot, protocol, settled: event === 'recheck' || asked, now })
  if (certificate.status === 'refused') return { ok: false, reason: certificate.reason, uid: null }
  const admitted = admitWithoutCertificate(policies.noCertificate, userAgent, service?.anonymous ?? false)
  return admitted === 'admitted' ? { ok: true, record: null, until: Infinity } : { ok: false, reason: admitted, uid: null }
}

interface World { readonly snapshot: Snapshot; readonly policies: Policies; readonly now: number }

/**
 * Takes one decision. What is known to forbid wins over staleness; staleness wins over what would allow.
 * @param now ms
 */
export function decide(asked: World & { readonly request: AccessRequest }): Verdict {
  const { snapshot, policies, request, now } = asked
  const found = lookUpService(policies.index, request.protocol, request.host, request.port, request.path)
  const service = found.kind === 'service' ? found.service : null
  const identified = recognise(request, service, asked)
  const uid = identified.ok ? identified.record?.uid ?? null : identified.uid
  const user = identified.ok ? identified.record?.user ?? null : null
  const refuse = (reason: Reason, more: Partial<Verdict> = {}): Verdict => ({ allowed: false, reason, uid, user, service, policy: null, tags: [], validUntil: null, shadow: null, ...more })
  if (!identified.ok) return refuse(identified.reason)
  if (service === null) return refuse(found.kind === 'ambiguous-path' ? 'path-ambiguous' : 'service-unknown')
  const { record } = identified
  if (service.requireOnline && record?.online === false) return refuse('endpoint-offline')
  const those = policies.byService.get(service.name)
  if (those === undefined) return refuse('no-policy-matched')
  const people = record === null || request.certificate.status !== 'proved' ? null : peopleOf(request.certificate, record, those)
  const { allowed, reason, policy, tags, until, shadow } = matchPolicies(those, { record, origin: request.origin, snapshot, now, people })
  if (!allowed) return refuse(reason, { policy, tags, shadow })
  const stale = staleness(snapshot.currentAt, service.stale, request.event, now)
  if (!stale.ok) return refuse(stale.reason, { policy, shadow })
  return { allowed: true, reason: 'allowed', uid, user, service, policy, tags, validUntil: Math.min(identified.until, stale.until, until), shadow }
}
