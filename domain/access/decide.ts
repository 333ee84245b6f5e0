// Decides whether a device may reach a service now, why, and until when that stands. Pure: whoever asks brings snapshot, policies and time.
import type { Purpose } from '../../protocol/certificates.ts'
import type { Reason } from '../../protocol/decisions.ts'
import { uid as uidShape } from '../../protocol/ids.ts'
import type { EndpointRecord } from './endpoint-record.ts'
import { findService, type Policies, type Service } from './policies.ts'
import { matchPolicies, type DecidingTag } from './match-policies.ts'
import { endpointByUid, type Snapshot } from './snapshot.ts'
import { staleness } from './staleness.ts'

/** The certificate of the TLS session; `refused` ones proved nothing, not even a UID. */
export type Presented =
  | { readonly status: 'none' }
  | { readonly status: 'refused'; readonly reason: 'certificate-invalid' | 'certificate-expired' | 'certificate-wrong-purpose' }
  | { readonly status: 'proved'; readonly serial: string; readonly commonName: string; readonly purpose: Purpose | null; readonly notAfter: number }

export interface AccessRequest {
  /** `recheck`: an open session is decided again. */
  readonly event: 'decide' | 'recheck'
  readonly protocol: 'tcp' | 'https'
  readonly host: string
  readonly port: number
  readonly certificate: Presented
  /** The EMS has been asked about this device already: what is still unknown is refused for good. */
  readonly asked: boolean
}

export interface Verdict {
  readonly allowed: boolean
  readonly reason: Reason
  readonly uid: string | null
  readonly service: Service | null
  readonly policy: string | null
  readonly tags: readonly DecidingTag[]
  /** ms: the earliest instant at which it could change without news; null: never. */
  readonly validUntil: number | null
}

type Identified = { readonly ok: true; readonly record: EndpointRecord; readonly until: number } | { readonly ok: false; readonly reason: Reason; readonly uid: string | null }

/** Who asks, by the certificate and by the record of the device it names; both must say the same. */
function identify(snapshot: Snapshot, { certificate, protocol, event, asked }: AccessRequest, now: number): Identified {
  if (certificate.status === 'none') return { ok: false, reason: 'no-certificate', uid: null }
  if (certificate.status === 'refused') return { ok: false, reason: certificate.reason, uid: null }
  if (!uidShape.safeParse(certificate.commonName).success) return { ok: false, reason: certificate.purpose === 'gateway' || certificate.purpose === 'signing' ? 'certificate-wrong-purpose' : 'certificate-invalid', uid: null }
  const uid = certificate.commonName
  const refuse = (reason: Reason): Identified => ({ ok: false, reason, uid })
  // A browser's key is readable by every process of its user: it opens HTTPS services and nothing else.
  if (certificate.purpose !== 'agent' && !(certificate.purpose === 'browser' && protocol === 'https')) return refuse('certificate-wrong-purpose')
  if (now >= certificate.notAfter) return refuse('certificate-expired')
  const record = endpointByUid(snapshot, uid)
  if (record === undefined) return refuse(snapshot.currentAt === null ? 'snapshot-missing' : 'endpoint-unknown')
  if (!record.registered) return refuse('endpoint-deregistered')
  const entry = record.certificates.find(({ serial }) => serial === certificate.serial)
  if (entry === undefined) return refuse(event === 'recheck' || asked ? 'certificate-revoked' : 'certificate-unknown')
  if (entry.purpose !== certificate.purpose) return refuse('certificate-wrong-purpose')
  if (now >= entry.notAfter) return refuse('certificate-expired')
  return record.quarantined ? refuse('endpoint-quarantined') : { ok: true, record, until: Math.min(certificate.notAfter, entry.notAfter) }
}

/**
 * Takes one decision. What is known to forbid wins over staleness; staleness wins over what would allow.
 * @param now ms
 */
export function decide({ snapshot, policies, request, now }: { snapshot: Snapshot; policies: Policies; request: AccessRequest; now: number }): Verdict {
  const identified = identify(snapshot, request, now)
  const service = findService(policies, request.protocol, request.host, request.port)
  const refuse = (reason: Reason, more: Partial<Verdict> = {}): Verdict => ({
    allowed: false, reason, uid: identified.ok ? identified.record.uid : identified.uid, service, policy: null, tags: [], validUntil: null, ...more,
  })
  if (!identified.ok) return refuse(identified.reason)
  if (service === null) return refuse('service-unknown')
  const { record } = identified
  if (service.requireOnline && !record.online) return refuse('endpoint-offline')
  const { allowed, reason, policy, tags, validUntil } = matchPolicies({ record, snapshot, policies: policies.byService.get(service.name) ?? [], now })
  if (!allowed) return refuse(reason, { policy, tags })
  const stale = staleness(snapshot.currentAt, service.stale, request.event, now)
  if (!stale.ok) return refuse(stale.reason, { policy })
  const instants = [identified.until, stale.until, ...(validUntil === null ? [] : [validUntil])]
  return { allowed: true, reason: 'allowed', uid: record.uid, service, policy, tags, validUntil: Math.min(...instants) }
}
