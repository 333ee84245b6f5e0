// What an upstream is told about the device behind a request, signed. One assertion serves the requests of a TLS session to a service for a minute.
import type { Verdict } from '../../domain/access/decide.ts'
import { tagPresence } from '../../domain/access/endpoint-record.ts'
import type { Proved } from '../../domain/access/identify.ts'
import type { Service } from '../../domain/access/service.ts'
import { endpointByUid, type Snapshot } from '../../domain/access/snapshot.ts'
import type { AssertionKeys } from './assertion-keys.ts'

/** Of the device, by the gateway's own knowledge. */
export interface Vouched { readonly uid: string; readonly tags: readonly string[]; readonly assertion: string }

const LIVES_FOR = 300_000
/** A signature costs more than the rest of a small request. */
const SERVES_FOR = 60_000
const MAX_TAGS = 64

/** Names of the tags that a device bears now, sorted. */
function tagsOf(snapshot: Snapshot, uid: string, now: number): { readonly record: object | undefined; readonly tags: string[] } {
  const record = endpointByUid(snapshot, uid)
  const present = record === undefined ? [] : [...record.tags.keys()].filter((tag) => tagPresence(record, tag, now) === 'present')
  return { record, tags: [...new Set(present.flatMap((tag) => snapshot.tagNames.get(tag) ?? []))].sort().slice(0, MAX_TAGS) }
}

/** @param issuer the gateway's serial */
export function createAssertions({ keys, issuer, now }: { readonly keys: AssertionKeys; readonly issuer: string; readonly now: () => number }) {
  const known = new WeakMap<Proved, Map<Service, { readonly record: object | undefined; readonly until: number; readonly vouched: Vouched }>>()
  /** Vouches for the holder of a certificate, whom `verdict` let in to `service`. */
  return async (certificate: Proved, service: Service, verdict: Verdict, snapshot: Snapshot): Promise<Vouched> => {
    const at = now()
    const uid = certificate.commonName
    const kept = known.get(certificate)?.get(service)
    if (kept !== undefined && at < kept.until && kept.record === endpointByUid(snapshot, uid)) return kept.vouched
    const { record, tags } = tagsOf(snapshot, uid, at)
    const exp = Math.min(at + LIVES_FOR, verdict.validUntil ?? Infinity)
    const vouched = { uid, tags, assertion: await keys.sign({ iss: issuer, sub: uid, aud: service.name, iat: Math.floor(at / 1000), exp: Math.floor(exp / 1000), tags, certificate: certificate.serial }) }
    const those = known.get(certificate) ?? new Map()
    known.set(certificate, those.set(service, { record, until: Math.min(at + SERVES_FOR, exp), vouched }))
    return vouched
  }
}
export type Assertions = ReturnType<typeof createAssertions>
