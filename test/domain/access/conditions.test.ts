import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { EndpointRecord } from '../../../domain/access/endpoint-record.ts'
import { matchPolicies } from '../../../domain/access/match-policies.ts'
import type { Origin } from '../../../domain/access/geo.ts'
import { peopleIn } from '../../../domain/access/kept-people.ts'
import { indexPolicies } from '../../../domain/access/policy-index.ts'
import { readPolicies } from '../../../domain/access/read-policies.ts'
import { readPolicy, type Policy } from '../../../domain/access/policy.ts'
import { userCondition } from '../../../domain/user/user-condition.ts'
import { NOW, compile, decideFor, policiesOf, recordOf, snapshotOf, tagged } from './access-under-test.ts'

const iso = (ms: number) => new Date(ms).toISOString()
const policy = (more: string, action = 'allow') => policiesOf(`[{name: p, services: [s], ${more}, action: ${action}}]`)
const reason = (policies: ReturnType<typeof policiesOf>, record: EndpointRecord = recordOf(), now = NOW) => decideFor(policies, record, { now }).reason
const from = (origin: Origin, policies: ReturnType<typeof policiesOf>, record = recordOf()) => decideFor(policies, record, { origin }).reason

describe('a policy asks of the device', () => {
  it('whether it is online, on the fabric, and whose it is', () => {
    expect([reason(policy('device: {online: true}'), recordOf({ online: false })), reason(policy('device: {online: true}'))]).toEqual(['endpoint-offline', 'allowed'])
    expect([reason(policy('device: {onFabric: true}')), reason(policy('device: {onFabric: false}')), reason(policy('device: {onFabric: true}'), recordOf({ onFabric: true }))]).toEqual(['fabric-mismatch', 'allowed', 'allowed'])
    const corporate = policy('device: {ownership: [corporate]}')
    expect([reason(corporate), reason(corporate, recordOf({ ownership: 'personal' })), reason(corporate, recordOf({ ownership: 'corporate' }))]).toEqual(['ownership-unknown', 'ownership-mismatch', 'allowed'])
  })
  it('and one that denies does so on what is not known', () => {
    const list = policiesOf('[{name: no, services: [s], device: {ownership: [personal]}, action: deny}, {name: yes, services: [s], action: allow}]')
    expect([reason(list), reason(list, recordOf({ ownership: 'personal' })), reason(list, recordOf({ ownership: 'corporate' }))]).toEqual(['ownership-unknown', 'denied-by-policy', 'allowed'])
  })
})

describe('a policy asks where the device connects from', () => {
  const origins = ['DE', 'FR', 'nowhere', 'unknown'] as const
  it('and lets in from the countries that it names, and from nowhere else', () => {
    const list = policiesOf('[{name: p, services: [s], geo: {countries: [DE, AT]}, action: allow}]')
    expect(origins.map((origin) => from(origin, list))).toEqual(['allowed', 'country-mismatch', 'country-mismatch', 'country-unknown'])
  })
  it('and one that denies does so on what is not known, but not on addresses that are of no country', () => {
    const list = policiesOf('[{name: no, services: [s], geo: {countries: [DE]}, action: deny}, {name: yes, services: [s], action: allow}]')
    expect(origins.map((origin) => from(origin, list))).toEqual(['denied-by-policy', 'allowed', 'allowed', 'country-unknown'])
  })
  it('beside what else it asks: what is false is told before what is not known', () => {
    const list = policiesOf('[{name: p, services: [s], tags: {all: [a]}, geo: {countries: [DE]}, action: allow}]')
    expect([from('unknown', list, tagged([])), from('FR', list, tagged([], ['t-a'])), from('unknown', list, tagged([], ['t-a'])), from('unknown', list, tagged(['t-a']))]).toEqual(['tag-missing', 'country-mismatch', 'tag-unknown', 'country-unknown'])
  })
  it('by codes that there are', () => {
    const errorsOf = (codes: string) => { try { policiesOf(`[{name: p, services: [s], geo: {countries: ${codes}}, action: allow}]`); return '' } catch (error) { return String(error) } }
    expect(errorsOf('[DE, XK, TW]')).toBe('')
    for (const wrong of ['[UK]', '[de]', '[XX]', '[DEU]', '[]', 'DE', '["nowhere"]', '["unknown"]']) expect(errorsOf(wrong), wrong).toContain('countries')
  })
})

describe('a policy asks who uses the device', () => {
  const alice = { issuer: 'https://idp.test', subject: 's-1', email: 'Alice@corp.test', groups: ['staff', 'ops'], authenticatedAt: NOW - 60_000, expiresAt: NOW + 3_600_000 }
  const by = (asked: string, user: EndpointRecord['user'], now = NOW) => reason(policy(asked), recordOf(user === undefined ? {} : { user }), now)
  it('by e-mail without case, by subject to the letter, by group, by issuer, and all that is given must hold', () => {
    for (const asked of ['users: [alice@CORP.test]', 'users: [other, s-1]', 'groups: [ops, other]', 'issuer: https://idp.test', 'authenticatedWithinSeconds: 3600', 'verifiedUser: true', 'users: [s-1], groups: [staff], issuer: https://idp.test, authenticatedWithinSeconds: 61']) {
      expect([by(asked, alice), by(asked, undefined)], asked).toEqual(['allowed', 'user-unverified'])
    }
    for (const asked of ['users: [S-1]', 'users: [bob@corp.test]', 'groups: [Staff]', 'issuer: https://idp.test/', 'users: [s-1], groups: [admins]', 'users: [bob], groups: [staff]', 'users: [s-1], issuer: https://other.test']) {
      expect([by(asked, alice), by(asked, undefined)], asked).toEqual(['user-mismatch', 'user-unverified'])
    }
  })
  it('who is called at the provider as somebody else\'s address reads is not that person', () => {
    const { email: _, ...unverified } = { ...alice, subject: 'bob@corp.test' }
    expect([by('users: [bob@corp.test]', { ...alice, subject: 'bob@corp.test' }), by('users: [bob@corp.test]', unverified), by('users: [bob@corp.test], issuer: https://idp.test', unverified), by('users: [alice@corp.test]', { ...alice, subject: 'alice@corp.test' })])
      .toEqual(['user-unverified', 'user-unverified', 'user-unverified', 'allowed'])
    expect(decideFor(policiesOf('[{name: no, services: [s], users: [bob@corp.test], action: deny}, {name: yes, services: [s], action: allow}]'), recordOf({ user: unverified }))).toMatchObject({ allowed: false })
  })
  it('who has expired, proved it too long ago or in the future, or in what groups, is not known', () => {
    const { email: _, groups: __, ...bare } = alice
    expect([by('users: [s-1]', alice, NOW + 3_600_000), by('users: [bob]', alice, NOW + 3_600_000), by('authenticatedWithinSeconds: 60', alice), by('authenticatedWithinSeconds: 60', { ...alice, authenticatedAt: NOW + 60_001 })]).toEqual(Array(4).fill('user-unverified'))
    expect([by('groups: [staff]', bare), by('users: [alice@corp.test]', bare), by('users: [alice]', bare), by('users: [s-1]', bare), by('users: [alice@corp.test], groups: [staff]', { ...bare, groups: [] }), by('users: [alice], groups: [staff]', bare)])
      .toEqual(['user-unverified', 'user-unverified', 'user-mismatch', 'allowed', 'user-mismatch', 'user-mismatch'])
  })
  it('and a decision ends when what is vouched for does', () => {
    const long = ', stale: {after: 31536000}'
    const until = (asked: string) => decideFor(policiesOf(`[{name: p, services: [s], ${asked}, action: allow}]`, long), recordOf({ user: alice })).validUntil
    expect([until('users: [s-1]'), until('users: [s-1], authenticatedWithinSeconds: 600'), until('device: {online: true}')]).toEqual([NOW + 3_600_000, NOW + 540_000, NOW + 1_000_000_000])
    // Whoever is let in beside one that denies others is decided again when it is no more known who it is.
    expect(decideFor(policiesOf('[{name: no, services: [s], users: [mallory], action: deny}, {name: yes, services: [s], action: allow}]', long), recordOf({ user: alice }))).toMatchObject({ allowed: true, policy: 'yes', validUntil: NOW + 3_600_000 })
  })
  it('and one that denies does so on whom nobody vouches for', () => {
    const list = policiesOf('[{name: no, services: [s], groups: [guests], action: deny}, {name: yes, services: [s], action: allow}]')
    expect([reason(list), reason(list, recordOf({ user: alice })), reason(list, recordOf({ user: { ...alice, groups: ['guests'] } })), reason(list, recordOf({ user: alice }), NOW + 3_600_000)]).toEqual(['user-unverified', 'allowed', 'denied-by-policy', 'user-unverified'])
  })
  it('beside what else it asks: what is false is told before what is not known', () => {
    const asked = 'tags: {all: [a]}, users: [s-1]'
    const told = (record: EndpointRecord, user?: EndpointRecord['user']) => reason(policy(asked), { ...record, ...(user === undefined ? {} : { user }) })
    expect([told(tagged([])), told(tagged([], ['t-a']), { ...alice, subject: 's-2' }), told(tagged([], ['t-a']), alice), told(tagged(['t-a'])), told(tagged(['t-a']), alice)]).toEqual(['tag-missing', 'user-mismatch', 'tag-unknown', 'user-unverified', 'allowed'])
  })
  it('and every decision tells whom it was about, whatever was asked', () => {
    const open = policiesOf('[{name: p, services: [s], action: allow}]')
    expect([decideFor(open, recordOf({ user: alice })).user, decideFor(open, recordOf()).user, decideFor(open, recordOf({ user: alice, quarantined: true })).user]).toEqual([alice, null, null])
    expect(decideFor(policiesOf('[{name: p, services: [s], users: [bob], action: allow}]'), recordOf({ user: alice }))).toMatchObject({ allowed: false, reason: 'user-mismatch', policy: 'p', user: alice })
  })
  it('by a file that says what is wrong with it, and where', () => {
    const errorsOf = (asked: string) => { const read = readPolicies(`services: [{name: s, protocol: tcp, match: [h.test], ports: [22]}]\npolicies:\n  - name: p\n    services: [s]\n    action: allow\n    ${asked}\n`); return read.ok ? [] : read.errors.map(({ line, path, detail }) => `${line} ${path} ${detail}`) }
    expect(errorsOf('users: [alice@corp.test, s-1]')).toEqual([])
    for (const [asked, said] of [['users: []', 'users Too small'], ['users: [""]', 'users.0 Too small'], ['users: verified', 'users Invalid input: expected array'], ['groups: [[staff]]', 'groups.0 Invalid input: expected string'], ['issuer: idp.test', 'issuer must be an https URL'], ['issuer: "http://idp.test"', 'issuer must be an https URL'],
      ['authenticatedWithinSeconds: 5', 'authenticatedWithinSeconds Too small'], ['verifiedUser: false', 'verifiedUser must be true, or be left out'], ['emails: [alice@corp.test]', ' Unrecognized key: "emails"']] as const) {
      expect(errorsOf(asked), asked).toEqual([expect.stringMatching(new RegExp(`^[36] policies\\.0\\.?${said}`))])
    }
  })
})

describe('a policy stands in time', () => {
  // 1,800,000,000 s is a Friday, 08:00 UTC.
  const office = 'schedule: {days: [fri], hours: ["07:00-09:00"], timeZone: UTC}'
  it('on its schedule, and a decision ends when that does', () => {
    expect(decideFor(policy(office), recordOf(), { now: NOW })).toMatchObject({ allowed: true, validUntil: NOW + 180_000 })
    expect(decideFor(policiesOf(`[{name: p, services: [s], ${office}, action: allow}]`, ', stale: {after: 31536000}'), recordOf(), { now: NOW }).validUntil).toBe(NOW + 3_600_000)
    expect(reason(policy(office), recordOf(), NOW + 3_600_000)).toBe('outside-schedule')
  })
  it('until its end, as if it were not there afterwards', () => {
    const list = policiesOf(`[{name: guest, services: [s], until: "${iso(NOW + 60_000)}", action: allow}]`)
    expect(decideFor(list, recordOf())).toMatchObject({ allowed: true, validUntil: NOW + 60_000 })
    expect(reason(list, recordOf(), NOW + 60_000)).toBe('deadline-passed')
    const more = policiesOf(`[{name: guest, services: [s], until: "${iso(NOW)}", action: allow}, {name: staff, services: [s], tags: {all: [a]}, action: allow}]`)
    expect(decideFor(more, recordOf())).toMatchObject({ reason: 'tag-missing', policy: 'staff' })
  })
  it('so that a session under a later policy is decided again when a denying one begins', () => {
    const list = policiesOf(`[{name: night, services: [s], schedule: {hours: ["09:00-24:00"], timeZone: UTC}, action: deny}, {name: all, services: [s], action: allow}]`, ', stale: {after: 31536000}')
    expect(decideFor(list, recordOf())).toMatchObject({ allowed: true, policy: 'all', validUntil: NOW + 3_600_000 })
    expect(reason(list, recordOf(), NOW + 3_600_000)).toBe('denied-by-policy')
  })
})

describe('a report-only policy', () => {
  it('changes nothing and tells what it would have decided', () => {
    const list = policiesOf('[{name: strict, services: [s], mode: report, tags: {any: [b]}, action: deny}, {name: now, services: [s], tags: {all: [a]}, action: allow}]')
    expect(decideFor(list, tagged(['t-a', 't-b']))).toMatchObject({ allowed: true, policy: 'now', shadow: { policy: 'strict', allowed: false, reason: 'denied-by-tag' } })
    expect(decideFor(list, tagged(['t-a']))).toMatchObject({ allowed: true, shadow: null })
    expect(decideFor(list, tagged(['t-a'], ['t-b']))).toMatchObject({ allowed: true, shadow: { allowed: false, reason: 'tag-unknown' } })
  })
  it('tells who would gain, and is silent where an enforced one decides before it', () => {
    const gain = policiesOf('[{name: looser, services: [s], mode: report, action: allow}, {name: now, services: [s], tags: {all: [a]}, action: allow}]')
    expect(decideFor(gain, tagged([]))).toMatchObject({ allowed: false, reason: 'tag-missing', policy: 'now', shadow: { policy: 'looser', allowed: true, reason: 'allowed' } })
    const late = policiesOf('[{name: now, services: [s], tags: {all: [a]}, action: allow}, {name: after, services: [s], mode: report, action: deny}]')
    expect(decideFor(late, tagged(['t-a'])).shadow).toBeNull()
    expect(decideFor(policiesOf('[{name: only, services: [s], mode: report, action: allow}]'), tagged([]))).toMatchObject({ allowed: false, reason: 'no-policy-matched', policy: null, shadow: { allowed: true } })
  })
})

describe('whoever shows no certificate', () => {
  const file = (mode: string, policies: string) => compile(`noCertificate: {mode: ${mode}}\nservices: [{name: open, protocol: https, match: [o.test], upstream: http://u.test, anonymous: true}, {name: shut, protocol: https, match: [x.test], upstream: http://u.test}]\npolicies: ${policies}`)
  const everyone = '[{name: all, services: [open, shut], action: allow}]'
  const at = (policies: ReturnType<typeof compile>, host: string, userAgent = '') => decideFor(policies, recordOf(), { protocol: 'https', host, port: 443, userAgent, certificate: { status: 'none' } })
  it('is refused, reaches anonymous services, or does so by a kind that can not be managed', () => {
    expect(at(file('block', everyone), 'o.test').reason).toBe('no-certificate')
    expect([at(file('anonymous', everyone), 'o.test').reason, at(file('anonymous', everyone), 'x.test').reason]).toEqual(['allowed', 'no-certificate'])
    const phone = 'Mozilla/5.0 (iPhone; CPU iPhone OS 19_0)'
    const laptop = 'Mozilla/5.0 (X11; Linux x86_64)'
    expect([at(file('unmanageable', everyone), 'o.test', phone).reason, at(file('unmanageable', everyone), 'x.test', phone).reason, at(file('unmanageable', everyone), 'o.test', laptop).reason, at(file('unmanageable', everyone), 'o.test').reason])
      .toEqual(['allowed', 'no-certificate', 'no-certificate-manageable', 'no-certificate-manageable'])
    expect(at(file('anonymous', everyone), 'o.test').uid).toBeNull()
  })
  it('meets no condition about tags, devices or users, whatever it says', () => {
    for (const condition of ['tags: {all: [a]}', 'tags: {any: [a]}', 'tags: {none: [a]}', 'device: {online: true}', 'device: {onFabric: false}', 'device: {ownership: [personal]}', 'users: [s-1]', 'groups: [staff]', 'verifiedUser: true']) {
      expect(at(file('anonymous', `[{name: p, services: [open], ${condition}, action: allow}]`), 'o.test').reason, condition).toBe('no-policy-matched')
      expect(at(file('anonymous', `[{name: p, services: [open], ${condition}, action: deny}, {name: q, services: [open], action: allow}]`), 'o.test').reason, condition).toBe('allowed')
    }
    expect(at(file('anonymous', '[{name: p, services: [open], action: deny}]'), 'o.test').reason).toBe('denied-by-policy')
  })
  it('and a certificate that is refused is never taken for none', () => {
    const policies = file('anonymous', everyone)
    expect(decideFor(policies, recordOf(), { protocol: 'https', host: 'o.test', port: 443, certificate: { status: 'refused', reason: 'certificate-invalid' } }).reason).toBe('certificate-invalid')
  })
})

describe('the index of policies', () => {
  const names = fc.subarray(['a', 'b', 'c', 'twin', 'untold'])
  const anyCondition = fc.option(fc.record({
    users: fc.option(fc.subarray(['alice@corp.test', 'Bob@corp.test', 's-1', 'S-1'], { minLength: 1 }), { nil: undefined }), groups: fc.option(fc.subarray(['staff', 'Staff', 'admins'], { minLength: 1 }), { nil: undefined }),
    issuer: fc.constantFrom(undefined, undefined, 'https://idp.test', 'https://other.test'), authenticatedWithinSeconds: fc.constantFrom(undefined, undefined, 60, 3_600),
  }).map(userCondition), { nil: null })
  const anyUser = fc.option(fc.record({
    subject: fc.constantFrom('s-1', 's-2'), email: fc.constantFrom(undefined, 'Alice@corp.test', 'bob@corp.test'), groups: fc.option(fc.subarray(['staff', 'admins', 'guests']), { nil: undefined }), expiresAt: fc.constantFrom(null, NOW, NOW + 1_000),
  }).map((drawn) => ({ issuer: 'https://idp.test', authenticatedAt: NOW - 120_000, ...drawn })), { nil: undefined })
  const anyPolicy = fc.record({
    all: names, any: names, none: names, action: fc.constantFrom('allow' as const, 'deny' as const), mode: fc.constantFrom('enforce' as const, 'enforce' as const, 'report' as const),
    device: fc.constantFrom({}, { online: true }, { ownership: ['corporate' as const] }), countries: fc.constantFrom(null, null, new Set<Origin>(['DE'])), user: anyCondition, until: fc.constantFrom(null, null, NOW - 1, NOW + 1),
  })
  const tags = fc.subarray(['t-a', 't-b', 't-c', 't-a2', 't-a3'])
  it('decides as a walk over every policy does: property', () => {
    fc.assert(fc.property(fc.array(anyPolicy, { maxLength: 70 }), tags, tags, fc.constantFrom(true, true, true, false), fc.constantFrom<Origin>('DE', 'FR', 'unknown'), anyUser, (drawn, present, unknown, tagsKnown, origin, user) => {
      const policies: Policy[] = drawn.map((each, n) => ({ ...each, name: `p${n}`, hours: null, schedule: null }))
      const record = { ...tagged(present.filter((tag) => !unknown.includes(tag)), unknown), tagsKnown, user }
      const index = indexPolicies(policies)
      const subject = { record, people: peopleIn(index, user), origin, snapshot: snapshotOf(record), now: NOW }
      const enforced = policies.filter(({ mode }) => mode === 'enforce').map((each) => ({ each, ...readPolicy(each, subject) })).find(({ each, value }) => value === 'true' || (each.action === 'deny' && value === 'unknown'))
      const found = matchPolicies(index, subject)
      expect({ allowed: found.allowed, policy: found.allowed || enforced !== undefined ? found.policy : null }).toEqual({ allowed: enforced?.each.action === 'allow', policy: enforced?.each.name ?? null })
      const before = enforced === undefined ? policies : policies.slice(0, policies.indexOf(enforced.each))
      const shadow = before.filter(({ mode }) => mode === 'report').map((each) => ({ each, ...readPolicy(each, subject) })).find(({ each, value }) => value === 'true' || (each.action === 'deny' && value === 'unknown'))
      expect(found.shadow?.policy ?? null).toBe(shadow?.each.name ?? null)
      // What was let in stands until then: nothing that was passed over comes to decide before.
      const still = matchPolicies(index, { ...subject, now: Math.min(found.until - 1, NOW + 3_600_000) })
      if (found.allowed) expect(still).toMatchObject({ allowed: true, policy: found.policy })
    }), { numRuns: 600 })
  })
  it('evaluates as many among four thousand as among forty', () => {
    const work = (count: number) => {
      let read = 0
      const policies = Array.from({ length: count }, (_, n): Policy => new Proxy({ name: `p${n}`, action: 'allow', mode: 'enforce', all: n === count - 1 ? ['a', 'b'] : ['a', `other-${n}`], any: [], none: [], device: {}, user: null, countries: null, hours: null, schedule: null, until: null }, {
        get(target, key) {
          read++
          return Reflect.get(target, key) as unknown
        },
      }))
      const record = tagged(['t-a', 't-b'])
      const snapshot = { ...snapshotOf(record), tagsByName: new Map([['a', ['t-a']], ['b', ['t-b']], ...policies.map((_, n): [string, string[]] => [`other-${n}`, [`t-other-${n}`]])]) }
      const index = indexPolicies(policies)
      read = 0
      expect(matchPolicies(index, { record, people: null, origin: 'unknown', snapshot, now: NOW }).policy).toBe(`p${count - 1}`)
      return read
    }
    expect(work(4_000)).toBe(work(40))
  })
})
