// What an upstream is told about the device behind a request and its user, signed. One assertion serves the requests of a TLS session to a service for a minute.
import type { Verdict } from '../../domain/access/decide.ts'
import { tagPresence, type EndpointRecord } from '../../domain/access/endpoint-record.ts'
import type { Proved } from '../../domain/access/identify.ts'
import type { Service } from '../../domain/access/service.ts'
import { endpointByUid, type Snapshot } from '../../domain/access/snapshot.ts'
import { hasExpired } from '../../domain/user/user-condition.ts'
import type { AssertedUser } from '../../identity/assertion.ts'
import type { VerifiedUser } from '../../protocol/identity.ts'
import type { AssertionKeys } from './assertion-keys.ts'
import { listedForHeader } from './header-text.ts'

/** Of the device and its user, by the gateway's own knowledge. `user` null: nobody is vouched for; its `groups` absent: none are told. */
export interface Vouched { readonly uid: string; readonly tags: readonly string[]; readonly user: Pick<AssertedUser, 'sub' | 'email' | 'groups'> | null; readonly assertion: string }

const LIVES_FOR = 300_000
/** A signature costs more than the rest of a small request. */
const SERVES_FOR = 60_000
const MAX_TAGS = 64
const seconds = (ms: number): number => Math.floor(ms / 1000)

/** Names of the tags that a device bears now, sorted. */
function tagsOf(record: EndpointRecord | undefined, snapshot: Snapshot, now: number): string[] {
  const present = record === undefined ? [] : [...record.tags.keys()].filter((tag) => tagPresence(record, tag, now) === 'present')
  return [...new Set(present.flatMap((tag) => snapshot.tagNames.get(tag) ?? []))].sort().slice(0, MAX_TAGS)
}

/** As many groups as a header carries: with more, an upstream would refuse the request whole. */
function asserted({ issuer, subject, email, name, groups, authenticatedAt, expiresAt }: VerifiedUser): AssertedUser {
  const said = groups === undefined ? undefined : listedForHeader(groups)
  return {
    iss: issuer, sub: subject, ...(email === undefined ? {} : { email }), ...(name === undefined || name === '' ? {} : { name }), ...(said === undefined ? {} : { groups: said }),
    ...(said !== undefined && said.length < (groups?.length ?? 0) ? { more_groups: true } : {}), auth_time: seconds(authenticatedAt), ...(expiresAt === null ? {} : { exp: seconds(expiresAt) }),
  }
}

/** @param issuer the gateway's serial */
export function createAssertions({ keys, issuer, now }: { readonly keys: AssertionKeys; readonly issuer: string; readonly now: () => number }) {
  const known = new WeakMap<Proved, Map<Service, { readonly record: EndpointRecord | undefined; readonly until: number; readonly vouched: Vouched }>>()
  /** Vouches for the holder of a certificate, whom `verdict` let in to `service`. */
  return async (certificate: Proved, service: Service, verdict: Verdict, snapshot: Snapshot): Promise<Vouched> => {
    const at = now()
    const uid = certificate.commonName
    const record = endpointByUid(snapshot, uid)
    const kept = known.get(certificate)?.get(service)
    if (kept !== undefined && at < kept.until && kept.record === record) return kept.vouched
    const tags = tagsOf(record, snapshot, at)
    const who = record?.user === undefined || hasExpired(record.user, at) ? null : record.user
    const user = who === null ? null : asserted(who)
    const exp = Math.min(at + LIVES_FOR, verdict.validUntil ?? Infinity, who?.expiresAt ?? Infinity)
    const assertion = await keys.sign({ iss: issuer, sub: uid, aud: service.name, iat: seconds(at), exp: seconds(exp), tags, certificate: certificate.serial, ...(user === null ? {} : { user }) })
    const vouched = { uid, tags, user, assertion }
    const those = known.get(certificate) ?? new Map()
    known.set(certificate, those.set(service, { record, until: Math.min(at + SERVES_FOR, exp), vouched }))
    return vouched
  }
}
export type Assertions = ReturnType<typeof createAssertions>
