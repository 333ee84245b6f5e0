// One endpoint as a gateway knows it: what a decision reads and nothing else. It is replaced, never edited.
import type { CertificateRecord } from '../../protocol/certificates.ts'
import type { VerifiedUser } from '../../protocol/identity.ts'
import type { Ownership } from '../../protocol/ownership.ts'

/** The three values of a Zero Trust tag. */
export type TagPresence = 'present' | 'absent' | 'unknown'

export interface EndpointRecord {
  readonly uid: string
  readonly registered: boolean
  readonly online: boolean
  readonly onFabric: boolean
  readonly quarantined: boolean
  readonly hostName: string
  /** Whose device it is; absent: the EMS has not said. */
  readonly ownership?: Ownership
  /** Whom an identity provider vouched for on it; absent: nobody. It may have expired: who reads it asks the clock. */
  readonly user?: VerifiedUser
  /** Where it says it is: addresses in normal form, MACs in lower case. A claim says where to look; it opens nothing. */
  readonly addresses: readonly string[]
  readonly macs: readonly string[]
  /** Every valid certificate, whatever its purpose. */
  readonly certificates: readonly CertificateRecord[]
  /** False until the EMS has told this endpoint's tags: until then every tag is unknown, not absent. */
  readonly tagsKnown: boolean
  /** Tags that it bears, by tag UID; `validUntil` in ms, null: until told otherwise. */
  readonly tags: ReadonlyMap<string, { readonly validUntil: number | null }>
  /** UIDs of tags about which nothing certain is known. */
  readonly unknown: ReadonlySet<string>
  /** The earliest instant, ms, at which an unknown could change by time alone; null: never. */
  readonly unknownUntil: number | null
}

/** Whether the endpoint bears a tag at `now`. A tag past its validity has become unknown: the EMS has not yet said what it is. */
export function tagPresence(record: EndpointRecord, tagUid: string, now: number): TagPresence {
  if (!record.tagsKnown || record.unknown.has(tagUid)) return 'unknown'
  const tag = record.tags.get(tagUid)
  if (tag === undefined) return 'absent'
  return tag.validUntil !== null && now >= tag.validUntil ? 'unknown' : 'present'
}
