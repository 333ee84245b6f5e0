// Maps what the fabric wire says of an endpoint to the record that decisions read. The published names stand here and in protocol/fabric only.
import { claimedAddresses, claimedMacs } from '../../domain/access/device-address.ts'
import type { EndpointRecord } from '../../domain/access/endpoint-record.ts'
import { certificateRecord } from '../../protocol/certificates.ts'
import { Fault } from '../../protocol/faults.ts'
import { verifiedUser, type VerifiedUser } from '../../protocol/identity.ts'
import { uid as uidShape } from '../../protocol/ids.ts'
import type { HostTag, SysinfoRecord, UidTags } from '../../protocol/fabric/tables.ts'
import { sharedTags, sharedUser } from './shared-parts.ts'

/** The part of a record that the table `sysinfo` tells. */
export type SystemFacts = Pick<EndpointRecord, 'uid' | 'registered' | 'online' | 'onFabric' | 'quarantined' | 'hostName' | 'ownership' | 'user' | 'addresses' | 'macs' | 'certificates'>
/** The part that the table `uid_tags` tells. */
export type TagFacts = Pick<EndpointRecord, 'tagsKnown' | 'tags' | 'unknown' | 'unknownUntil'>

/** Nothing has been told of its tags: every one is unknown, none is absent. */
export const untoldTags: TagFacts = { tagsKnown: false, ...sharedTags({ tags: [], unknown: [] }), unknownUntil: null }

const requireUid = (uid: string): string => {
  if (!uidShape.safeParse(uid).success) throw new Fault('internal', 'The EMS sent a record under something that is no UID.')
  return uid
}

/** What does not read as a verified user is nobody: half of one could be somebody else. */
function userOf({ verified_user: wire }: SysinfoRecord): VerifiedUser | undefined {
  if (wire === undefined) return undefined
  const { issuer, subject, email, name, groups, authenticated_at: authenticatedAt, expires_at: expiresAt } = wire
  const { data } = verifiedUser.safeParse({ issuer, subject, email, name, groups, authenticatedAt: authenticatedAt * 1000, expiresAt: expiresAt === null ? null : expiresAt * 1000 })
  return data === undefined ? undefined : sharedUser(data)
}

/** Facts from a `sysinfo` row; null: the endpoint has left this gateway's sight. Throws a `Fault` when the row is about another UID than its key. */
export function systemFacts(key: string, wire: SysinfoRecord | null): SystemFacts | null {
  const uid = requireUid(key)
  if (wire === null) return null
  if (wire.uid !== uid) throw new Fault('internal', 'The EMS sent a record that is about another endpoint than its key.')
  return {
    uid, registered: wire.is_registered, online: wire.online, onFabric: wire.onnet, quarantined: wire.quarantined, hostName: wire.hostname,
    // Named when it is not told too: what was told before must not outlive it.
    ownership: wire.ownership, user: userOf(wire),
    addresses: claimedAddresses([wire.ip, ...wire.ip_list ?? []]), macs: claimedMacs([wire.mac, ...wire.mac_list]),
    // A certificate that does not read as one opens nothing; the others stand.
    certificates: wire.client_certs.flatMap(({ sn, purpose, user, not_after: notAfter }) => {
      const read = certificateRecord.safeParse({ serial: sn, purpose, user, notAfter: notAfter * 1000 })
      return read.success ? [read.data] : []
    }),
  }
}

/** Facts from a `uid_tags` row; null: nothing is told of this endpoint's tags any more. */
export function tagFacts(key: string, wire: UidTags | null): TagFacts | null {
  requireUid(key)
  if (wire === null) return null
  return {
    tagsKnown: true, unknownUntil: wire.valid_until,
    ...sharedTags({ tags: wire.members.map(({ tag_uid: tagUid, valid_until: validUntil }) => [tagUid, validUntil]), unknown: wire.unknown }),
  }
}

/** Tag UID → name, of every tag. */
export const tagNamesOf = (tags: readonly HostTag[]): Map<string, string> => new Map(tags.map(({ tag_uid: tagUid, name }) => [tagUid, name]))
/** Names that rows of `uid_tags` bring along: a tag may be borne before the list of tags was read again. */
export const memberNames = (rows: Iterable<UidTags | null>): Map<string, string> =>
  new Map([...rows].flatMap((row) => (row?.members ?? []).map(({ tag_uid: tagUid, tag_name: name }): [string, string] => [tagUid, name])))
