// Says who asks: by the certificate of the TLS session and by the record of the device it names, and both must say the same.
import type { CertificateRecord, Purpose } from '../../protocol/certificates.ts'
import type { AccessProtocol, Reason } from '../../protocol/decisions.ts'
import type { EndpointRecord } from './endpoint-record.ts'
import { peopleIn, type KeptPeople } from './kept-people.ts'
import type { ServicePolicies } from './policy-index.ts'
import { isStillAt, placeOf, type Place } from './sharded-map.ts'
import { endpointByUid, type Snapshot } from './snapshot.ts'

/** A certificate whose chain was verified. One object a TLS session: what its device's record says, and where policies ask for its user, is looked up once, until that part of the snapshot is replaced. */
export interface Proved {
  readonly status: 'proved'
  readonly serial: string
  readonly commonName: string
  readonly purpose: Purpose | null
  /** ms. */
  readonly notAfter: number
  /** Written here alone. */
  found?: Found
}
/** `until`: ms until which certificate and entry hold, as far as they do. One flat object: in a large fleet each step from one object to the next is a wait for memory. */
interface Found extends Place<EndpointRecord> { readonly record: EndpointRecord; readonly entry: CertificateRecord | null; readonly until: number; people: KeptPeople | null }

/** The certificate of the TLS session; `refused` ones proved nothing, not even a UID. */
export type Presented =
  | { readonly status: 'none' }
  | { readonly status: 'refused'; readonly reason: 'certificate-invalid' | 'certificate-expired' | 'certificate-wrong-purpose' }
  | Proved

export type Identified = { readonly ok: true; readonly record: EndpointRecord; readonly until: number } | { readonly ok: false; readonly reason: Reason; readonly uid: string | null }

/** As in protocol/ids.ts, without the parser: this runs for every request. */
const uidShape = /^[0-9a-f]{32}$/

function find(snapshot: Snapshot, certificate: Proved): Found | null {
  const kept = certificate.found
  if (kept !== undefined && isStillAt(snapshot.endpoints, kept)) return kept
  const record = endpointByUid(snapshot, certificate.commonName)
  if (record === undefined) return null
  const entry = record.certificates.find(({ serial }) => serial === certificate.serial) ?? null
  const until = entry === null || entry.purpose !== certificate.purpose ? -Infinity : Math.min(certificate.notAfter, entry.notAfter)
  const { index, bucket } = placeOf(snapshot.endpoints, certificate.commonName)
  return certificate.found = { index, bucket, record, entry, until, people: null }
}

/** Where policies of a service ask for the user of an identified device; kept for the service that was asked for last. */
export function peopleOf({ found }: Proved, record: EndpointRecord, index: ServicePolicies): KeptPeople {
  if (found === undefined || found.record !== record) return peopleIn(index, record.user)
  return found.people?.index === index ? found.people : found.people = peopleIn(index, record.user)
}

/**
 * Who holds a verified certificate, now.
 * @param settled what is unknown here is refused for good: the EMS has been asked, or a session was open
 * @param now ms
 */
export function identify(certificate: Proved, { snapshot, protocol, settled, now }: { readonly snapshot: Snapshot; readonly protocol: AccessProtocol; readonly settled: boolean; readonly now: number }): Identified {
  const { commonName: uid, purpose } = certificate
  const refuse = (reason: Reason, who: string | null = uid): Identified => ({ ok: false, reason, uid: who })
  const found = find(snapshot, certificate)
  if (found === null && !uidShape.test(uid)) return refuse(purpose === 'gateway' || purpose === 'signing' ? 'certificate-wrong-purpose' : 'certificate-invalid', null)
  // A browser's key is readable by every process of its user: it opens HTTPS services and nothing else.
  if (purpose !== 'agent' && !(purpose === 'browser' && protocol === 'https')) return refuse('certificate-wrong-purpose')
  if (found !== null && now < found.until && found.record.registered) return found.record.quarantined ? refuse('endpoint-quarantined') : { ok: true, record: found.record, until: found.until }
  if (now >= certificate.notAfter) return refuse('certificate-expired')
  if (found === null) return refuse(snapshot.currentAt === null ? 'snapshot-missing' : 'endpoint-unknown')
  const { record, entry } = found
  if (!record.registered) return refuse('endpoint-deregistered')
  if (entry === null) return refuse(settled ? 'certificate-revoked' : 'certificate-unknown')
  if (entry.purpose !== purpose) return refuse('certificate-wrong-purpose')
  return refuse('certificate-expired')
}
