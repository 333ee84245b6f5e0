// A snapshot with one device and policies of one service, for tests of decisions.
import type { AccessRequest, Verdict } from '../../../domain/access/decide.ts'
import { decide } from '../../../domain/access/decide.ts'
import type { EndpointRecord } from '../../../domain/access/endpoint-record.ts'
import type { Policies } from '../../../domain/access/policies.ts'
import { readPolicies } from '../../../domain/access/read-policies.ts'
import { emptySnapshot, nextSnapshot, type Snapshot } from '../../../domain/access/snapshot.ts'

export const NOW = 1_800_000_000_000
export const UID = '0'.repeat(31) + 'a'
export const SERIAL = '4'.repeat(40)
/** Two tags are named alike. */
const tagNames = new Map([['t-a', 'a'], ['t-b', 'b'], ['t-c', 'c'], ['t-a2', 'twin'], ['t-a3', 'twin']])

export const recordOf = (more: Partial<EndpointRecord> = {}): EndpointRecord => ({
  uid: UID, registered: true, online: true, onFabric: false, quarantined: false, hostName: 'laptop', addresses: [], macs: [], tagsKnown: true,
  certificates: [{ serial: SERIAL, purpose: 'agent', user: '', notAfter: NOW + 1_000_000_000 }], tags: new Map(), unknown: new Set(), unknownUntil: null, ...more,
})
export const tagged = (present: string[], unknown: string[] = []): EndpointRecord => recordOf({ tags: new Map(present.map((tag) => [tag, { validUntil: null }])), unknown: new Set(unknown) })
export const snapshotOf = (endpoint: EndpointRecord, currentAt: number | null = NOW): Snapshot => nextSnapshot(emptySnapshot, { revision: '1.x', currentAt, tagNames, endpoints: new Map([[UID, endpoint]]) })

/** Compiles a whole file. @throws Error with what is wrong */
export function compile(text: string): Policies {
  const read = readPolicies(text)
  if (!read.ok) throw new Error(JSON.stringify(read.errors))
  return read.policies
}
export const policiesOf = (policies: string, more = ''): Policies => compile(`services: [{name: s, protocol: tcp, match: [h.test], ports: [22]${more}}]\npolicies: ${policies}`)

export const request: AccessRequest = {
  event: 'decide', protocol: 'tcp', host: 'h.test', port: 22, path: '/', userAgent: '', origin: 'unknown', asked: true, certificate: { status: 'proved', serial: SERIAL, commonName: UID, purpose: 'agent', notAfter: NOW + 2_000_000_000 },
}
/** Decides for the device, with a certificate that no other decision has seen. */
export const decideFor = (policies: Policies, endpoint: EndpointRecord, { now = NOW, ...more }: Partial<AccessRequest> & { now?: number } = {}): Verdict =>
  decide({ snapshot: snapshotOf(endpoint, now), policies, request: { ...request, certificate: { ...request.certificate }, ...more }, now })
