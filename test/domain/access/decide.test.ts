import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decide } from '../../../domain/access/decide.ts'
import type { EndpointRecord } from '../../../domain/access/endpoint-record.ts'
import { lintPolicies } from '../../../domain/access/lint-policies.ts'
import { lookUpService } from '../../../domain/access/service-index.ts'
import { policyFileSchema } from '../../../domain/access/policy-file.ts'
import { readPolicies } from '../../../domain/access/read-policies.ts'
import { NOW, decideFor, policiesOf, recordOf as record, request, snapshotOf, tagged } from './access-under-test.ts'
import { emptySnapshot, endpointByUid, endpointCount, nextSnapshot, uidBySerial } from '../../../domain/access/snapshot.ts'

const reasonFor = (policies: string, endpoint: EndpointRecord) => decideFor(policiesOf(policies), endpoint).reason

describe('policies decide with three-valued tags', () => {
  it('takes the first that matches, and denies when none does', () => {
    const list = '[{name: no, services: [s], tags: {any: [b]}, action: deny}, {name: yes, services: [s], tags: {all: [a]}, action: allow}, {name: off, services: [s], action: allow, enabled: false}]'
    expect(reasonFor(list, tagged(['t-a']))).toBe('allowed')
    expect(reasonFor(list, tagged(['t-a', 't-b']))).toBe('denied-by-tag')
    expect(reasonFor(list, tagged([]))).toBe('tag-missing')
    expect(reasonFor(list, tagged(['t-a'], ['t-b']))).toBe('tag-unknown')
    expect(reasonFor('[{name: no, services: [s], action: deny}]', tagged([]))).toBe('denied-by-policy')
    expect(reasonFor('[]', tagged(['t-a']))).toBe('no-policy-matched')
  })
  it('passes over an allowing policy that hangs on an unknown tag when a later one allows', () => {
    expect(reasonFor('[{name: one, services: [s], tags: {all: [a]}, action: allow}, {name: two, services: [s], tags: {all: [b]}, action: allow}]', tagged(['t-b'], ['t-a']))).toBe('allowed')
  })
  it('holds a tag name that the EMS never told for unknown, so that a misspelt `none` opens nothing', () => {
    expect(reasonFor('[{name: p, services: [s], tags: {none: [mispelt]}, action: allow}]', tagged([]))).toBe('tag-unknown')
    expect(lintPolicies(policiesOf('[{name: p, services: [s], tags: {none: [mispelt]}, action: allow}]'), { tagsByName: new Map([['a', []]]), now: NOW })).toHaveLength(1)
  })
  it('counts a name that two tags share as present when either is', () => {
    expect(reasonFor('[{name: p, services: [s], tags: {none: [twin]}, action: allow}]', tagged(['t-a3']))).toBe('denied-by-tag')
  })
  it('never allows what becoming certain could forbid', () => {
    const names = fc.subarray(['a', 'b', 'c'])
    const policy = fc.record({ all: names, any: names, none: names, action: fc.constantFrom('allow', 'deny') })
    const tags = fc.subarray(['t-a', 't-b', 't-c'])
    fc.assert(fc.property(fc.array(policy, { maxLength: 4 }), tags, tags, tags, (list, present, unknown, settled) => {
      const text = JSON.stringify(list.map(({ action, ...tags }, index) => ({ name: `p${index}`, services: ['s'], tags, action })))
      const certain = present.filter((tag) => !unknown.includes(tag))
      if (reasonFor(text, tagged(certain, unknown)) === 'allowed') {
        expect(reasonFor(text, tagged([...certain, ...settled.filter((tag) => unknown.includes(tag))]))).toBe('allowed')
      }
    }), { numRuns: 300 })
  })
})

describe('a decision lasts', () => {
  it('until the least of certificate, tag and staleness', () => {
    const endpoint = record({ tags: new Map([['t-a', { validUntil: NOW + 5_000 }]]) })
    const list = '[{name: p, services: [s], tags: {all: [a]}, action: allow}]'
    const at = (stale: string) => decide({ snapshot: snapshotOf(endpoint), policies: policiesOf(list, stale), request, now: NOW }).validUntil
    expect(at('')).toBe(NOW + 5_000)
    expect(at(', stale: {after: 2}')).toBe(NOW + 2_000)
    expect(at(', stale: {after: 1, then: hold, holdFor: 3}')).toBe(NOW + 4_000)
    expect(decide({ snapshot: snapshotOf(endpoint), policies: policiesOf(list), request, now: NOW + 5_000 }).reason).toBe('tag-unknown')
  })
  it('and is refused from a snapshot that was never current, whatever it holds', () => {
    expect(decide({ snapshot: snapshotOf(record(), null), policies: policiesOf('[{name: p, services: [s], action: allow}]'), request, now: NOW }).reason).toBe('snapshot-missing')
  })
  it('never longer because the clock was set back: what was said in the future is of an unknown age', () => {
    const list = '[{name: p, services: [s], action: allow}]'
    const after = (ahead: number, stale = '', event: 'decide' | 'recheck' = 'decide') => decide({ snapshot: snapshotOf(record(), NOW + ahead), policies: policiesOf(list, stale), request: { ...request, event }, now: NOW }).reason
    expect([after(0), after(60_000), after(60_001)]).toEqual(['allowed', 'allowed', 'snapshot-stale'])
    expect([after(3_600_000, '', 'recheck'), after(3_600_000, ', stale: {after: 180, then: hold, holdFor: 7200}', 'recheck')]).toEqual(['snapshot-stale', 'snapshot-stale'])
  })
  it('unless something known forbids: that wins over staleness', () => {
    const stale = snapshotOf(record({ quarantined: true }), NOW - 1_000_000)
    expect(decide({ snapshot: stale, policies: policiesOf('[]'), request, now: NOW }).reason).toBe('endpoint-quarantined')
  })
})

describe('the policy file', () => {
  it('refuses mistakes with their place', () => {
    const read = readPolicies('services:\n  - name: s\n    protocol: tcp\n    match: [h.test]\n    ports: [22]\npolicies:\n  - name: p\n    services: [other]\n    users: ann\n    colour: red\n    action: allow\n')
    if (read.ok) throw new Error('it was taken')
    expect(read.errors).toContainEqual(expect.objectContaining({ line: 9, path: 'policies.0.users', detail: expect.stringContaining('expected array') as string }))
    expect(read.errors.some(({ detail }) => detail.includes('colour'))).toBe(true)
    const unknownService = readPolicies('services: []\npolicies:\n  - {name: p, services: [other], action: allow}\n')
    expect(unknownService).toMatchObject({ ok: false, errors: [{ line: 3, detail: 'no service is named "other"' }] })
    for (const text of ['', 'a: [', '&a [*a]', 'services: [{name: s, protocol: https, match: [h.test], upstream: "nonsense"}]\npolicies: []', 'services: [{name: s, protocol: tcp, match: [h.test], ports: [22], stale: {then: hold}}]\npolicies: []']) {
      expect(readPolicies(text).ok, text).toBe(false)
    }
    expect(policyFileSchema()).toMatchObject({ type: 'object' })
  })
  it('matches exact names, names below a suffix, and ranges by address only', () => {
    const read = readPolicies('services:\n  - {name: s, protocol: tcp, match: [h.test, "*.apps.test", 10.0.0.0/8, "fd00::/8"], ports: [22, "80-90"]}\npolicies: []')
    if (!read.ok) throw new Error(JSON.stringify(read.errors))
    const found = (host: string, port = 22) => lookUpService(read.policies.index, 'tcp', host, port, '/').kind === 'service'
    for (const host of ['h.test', 'H.TEST.', 'x.apps.test', '10.1.2.3', '[fd00::1]', '::ffff:10.1.2.3']) expect(found(host), host).toBe(true)
    for (const host of ['apps.test', 'evilapps.test', 'xh.test', '11.0.0.1', '10.1.2.3.evil.test', '10.1', '0x0a000001']) expect(found(host), host).toBe(false)
    expect([found('h.test', 85), found('h.test', 91)]).toEqual([true, false])
    expect(lookUpService(read.policies.index, 'https', 'h.test', 22, '/').kind).toBe('none')
  })
})

describe('the snapshot', () => {
  it('shares what did not change, follows certificates, and lets the old one stand', () => {
    const uids = Array.from({ length: 500 }, (_, index) => index.toString(16).padStart(32, '0'))
    const serialOf = (uid: string, generation: number) => `${generation}${uid.slice(0, 7)}${uid}`.toUpperCase()
    const certified = (uid: string, generation: number) => record({ uid, certificates: [{ serial: serialOf(uid, generation), purpose: 'agent', user: '', notAfter: NOW }] })
    const first = nextSnapshot(emptySnapshot, { whole: true, endpoints: new Map(uids.map((uid) => [uid, certified(uid, 1)])) })
    const [one = '', two = ''] = uids
    const second = nextSnapshot(first, { revision: '2.x', endpoints: new Map([[one, certified(one, 2)], [two, null]]) })
    expect([endpointCount(first), endpointCount(second)]).toEqual([500, 499])
    expect([uidBySerial(second, serialOf(one, 1)), uidBySerial(second, serialOf(one, 2)), uidBySerial(second, serialOf(two, 1)), uidBySerial(first, serialOf(one, 1))]).toEqual([undefined, one, undefined, one])
    expect(endpointByUid(second, two)).toBeUndefined()
    expect(second.endpoints.buckets.filter((bucket, index) => bucket !== first.endpoints.buckets[index])).toHaveLength(2)
    expect(endpointCount(nextSnapshot(second, { whole: true, endpoints: new Map() }))).toBe(0)
  })
})
