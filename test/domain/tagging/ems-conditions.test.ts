// What each type that the EMS answers says of what is reported: a table for each.
import { describe, expect, it } from 'vitest'
import { compileRules } from '../../../domain/tagging/compile.ts'
import { verdictOf } from '../../../domain/tagging/verdict.ts'
import type { Facts, OsType, Sections } from '../../../protocol/facts.ts'
import { readCondition } from '../../../domain/tagging/registry.ts'
import { now, ruleSet } from './endpoint-facts.ts'
import { asked, checks, fact, osOf, secured } from './examples.ts'

const hour = 3_600_000
const day = 24 * hour
type Told = readonly [value: string, validUntil?: number | null]
function found(type: string, params: Record<string, unknown>, facts: Facts, os: OsType = 'linux', at = now): Told {
  const condition = asked(type, params)
  const compiled = compileRules([ruleSet(1, { conditions: [condition] }, { rules: { [os]: { conditions: [condition] } } })], 1).byOs[os][0]?.conditions[0]
  if (compiled === undefined) throw new Error(JSON.stringify(readCondition(condition)))
  const { value, validUntil } = verdictOf(compiled, os, { ...osOf(os), ...facts }, at)
  return [value, validUntil]
}
const places = (type: string, params: Record<string, unknown>): string[] => {
  const read = readCondition(asked(type, params))
  return read.ok ? [] : read.errors.map(({ path, detail }) => `${path.join('/')}: ${detail}`)
}

describe('an AD group', () => {
  const groups = (...names: string[]) => fact('directory', { groups: names.map((name) => ({ name })), groupsFrom: 'name-service' })
  it.each<[string, Facts, string[], string]>([
    ['is one of several', groups('CORP\\staff', 'x'), ['corp\\vpn', 'corp\\staff'], 'true'],
    ['of another domain is another', groups('EVIL\\staff'), ['CORP\\staff'], 'false'], ['is no part of a name', groups('CORP\\staff-old'), ['CORP\\staff'], 'false'],
    ['is in no group', groups(), ['x'], 'false'], ['is not known', fact('directory', { loggedInDomain: 'x' }), ['x'], 'unknown'],
    ['is asked by SID, and none is told', groups('CORP\\staff'), ['S-1-5-21-1'], 'unknown'],
  ])('that the user %s', (_, facts, names, value) => { expect(found('ad-group', { groups: names }, facts)).toEqual([value, null]) })
})

describe('antivirus', () => {
  type Product = Sections['antivirus']['products'][number]
  const product = (more: Partial<Product> = {}): Product => ({ name: 'ClamAV', running: 'on', signaturesAt: now - hour, source: 'clamav', ...more })
  const bare: Product = { name: 'ClamAV', running: 'on', source: 'clamav' }
  const of = (...products: Product[]) => fact('antivirus', { products })
  const all = { running: true, signaturesNotOlderThanSeconds: 86_400 }
  it.each<[string, Record<string, unknown>, Facts, Told]>([
    ['is installed', {}, of(product({ running: 'off' })), ['true', null]], ['is not', {}, of(), ['false', null]],
    ['runs', { running: true }, of(product()), ['true', null]], ['does not run', { running: true }, of(product({ running: 'off' })), ['false', null]], ['runs or not, unseen', { running: true }, of(product({ running: 'unknown' })), ['unknown', null]],
    ['is fresh, for so long', all, of(product()), ['true', now - hour + day]], ['is old', all, of(product({ signaturesAt: now - 2 * day })), ['false', null]], ['is of no date', all, of(bare), ['unknown', null]],
    ['is fresh in one and runs in the other: neither does', all, of(product({ running: 'off' }), product({ name: 'B', signaturesAt: now - 2 * day })), ['false', null]],
    ['one of two does', all, of(product({ running: 'unknown' }), product({ name: 'B' })), ['true', now - hour + day]],
    ['is another product', { product: 'Defender' }, of(product()), ['false', null]], ['is named by its beginning', { product: 'clam' }, of(product()), ['true', null]],
    ['dated in the future ages from the report', all, of(product({ signaturesAt: now + 1e11 })), ['true', now - 1000 + day]],
  ])('%s', (_, params, facts, told) => { expect(found('antivirus', params, facts)).toEqual(told) })
})

describe('an update of the system', () => {
  const of = (installedAt?: number) => fact('updates', installedAt === undefined ? {} : { installedAt })
  it.each<[string, Facts, Told]>([['is young enough, until then', of(now - day), ['true', now + 2 * day]], ['is too old', of(now - 3 * day), ['false', null]], ['is of no date', of(), ['unknown', null]], ['of tomorrow is of the report', of(now + day), ['true', now - 1000 + 3 * day]]])('%s', (_, facts, told) => {
    expect(found('os-version', { updatedWithinDays: 3 }, facts)).toEqual(told)
  })
  it('is asked alone, and a version with its comparator', () => {
    expect(places('os-version', {})).toEqual(['comparator: name a comparator and a version, or updatedWithinDays', 'version: name the version to compare with'])
    expect(places('os-version', { updatedWithinDays: 3, version: '12' })).toEqual(['version: is no part of updatedWithinDays: write two conditions'])
    expect(places('os-version', { comparator: '>=', version: '12.x' })).toEqual(['version: numbers with dots, like 12.8'])
  })
})

describe('a domain', () => {
  it.each<[string, Facts, string]>([['is the one', fact('directory', { loggedInDomain: 'CORP' }), 'true'], ['is another', fact('directory', { loggedInDomain: 'corp.evil' }), 'false'], ['is none', fact('directory', { loggedInDomain: '' }), 'false'], ['is not told', fact('directory', {}), 'unknown']])('that the user logged in to %s', (_, facts, value) => {
    expect(found('logged-in-domain', { domains: ['x', 'corp'] }, facts)).toEqual([value, null])
  })
})

describe('a vulnerability by its id', () => {
  const of = (ids: string[], scannedAt = now - hour) => fact('vulnerabilities', { scannedAt, scanner: 'osv', found: ids.map((id) => ({ id, name: 'x', severity: 'low' as const, package: '' })) })
  it.each<[string, Facts, Record<string, unknown>, Told]>([
    ['is there', of(['CVE-2026-7']), {}, ['true', null]], ['is not', of(['CVE-2026-8']), {}, ['false', null]], ['is there in another case', of(['cve-2026-7']), {}, ['true', null]],
    ['was looked for too long ago', of([], now - 2 * day), { scannedWithinSeconds: 86_400 }, ['unknown', null]], ['was looked for of late', of([]), { scannedWithinSeconds: 86_400 }, ['false', now - hour + day]],
    ['is not, where not everything was looked at', of(['not-looked-at:npm']), {}, ['unknown', null]], ['is there although not everything was looked at', of(['not-looked-at:npm', 'CVE-2026-7']), {}, ['true', null]],
    ['is beyond what the section holds', of(Array.from({ length: 5_000 }, (_, n) => `CVE-2025-${n}`)), {}, ['unknown', null]],
  ])('%s', (_, facts, more, told) => { expect(found('cve', { ids: ['CVE-2026-7', 'CVE-2026-9'], ...more }, facts)).toEqual(told) })
})

describe.each([['sandbox-detection', 'sandbox'], ['firewall-threat', 'threats']] as const)('%s', (type, section) => {
  type One = Sections['sandbox']['sources'][string]
  const say = (severities: One['detections'][number]['severity'][], expiresAt: number | null = now + hour): One => ({ detections: severities.map((severity) => ({ name: 'x', severity })), at: now - hour, expiresAt })
  const of = (sources: Record<string, One>): Facts => (section === 'sandbox' ? fact('sandbox', { sources }) : fact('threats', { sources }))
  it.each<[string, Record<string, unknown>, Facts, Told]>([
    ['something was detected', {}, of({ a: say(['low']) }), ['true', now + hour]], ['nothing was', {}, of({ a: say([]) }), ['false', now + hour]], ['nothing of that severity was', { severity: 'high' }, of({ a: say(['low']) }), ['false', now + hour]],
    ['something unrated was', { severity: 'high' }, of({ a: say(['unrated']) }), ['unknown', now + hour]], ['nobody said anything', {}, of({}), ['unknown', null]], ['another said so', { source: 'b' }, of({ a: say(['high']) }), ['unknown', null]],
    ['what was said has expired', {}, of({ a: say(['high'], now) }), ['unknown', null]], ['one has expired, the other is clean', {}, of({ a: say(['high'], now), b: say([], null) }), ['unknown', null]],
    ['one has expired, the other is not clean', {}, of({ a: say([], now), b: say(['high'], null) }), ['true', null]], ['two say so, and the later counts', {}, of({ a: say(['high']), b: say(['high'], now + 2 * hour) }), ['true', now + 2 * hour]],
    ['a source with the name of a member of objects has said nothing', { source: 'constructor' }, of({ a: say([]) }), ['unknown', null]],
  ])('%s', (_, params, facts, told) => { expect(found(type, params, facts)).toEqual(told) })
})

describe('a score', () => {
  const of = (score: number, expiresAt: number | null = null) => fact('scores', { sources: { edr: { score, at: now - hour, expiresAt } } })
  it.each<[string, string, number, boolean]>([['=', '50', 50, true], ['>=', '50', 50, true], ['>', '50', 50, false], ['<=', '50', 49.5, true], ['<', '50', 50, false]])('asked for %s %s is %d: %s', (comparator, score, own, holds) => {
    expect(found('third-party-score', { source: 'edr', comparator, score: Number(score) }, of(own))).toEqual([String(holds), null])
  })
  it('is unknown when it has expired or is another\'s, and ages from when its source told it', () => {
    const params = { source: 'edr', comparator: '>=', score: 50 }
    expect([found('third-party-score', params, of(60, now)), found('third-party-score', params, of(60, now + 5)), found('third-party-score', { ...params, source: 'x' }, of(60))]).toEqual([['unknown', null], ['true', now + 5], ['unknown', null]])
    expect([found('third-party-score', { ...params, notOlderThanSeconds: 3600 }, of(60)), found('third-party-score', { ...params, notOlderThanSeconds: 3601, proved: true }, of(60))]).toEqual([['unknown', null], ['true', now + 1000]])
  })
})

describe('on-fabric', () => {
  const of = (on: boolean, expiresAt: number | null) => fact('fabric', { on, checkedBy: 'gateway-1', checkedAt: now - hour, expiresAt })
  it('stands as long as its check', () => {
    expect([found('on-fabric', {}, of(true, now + 1)), found('on-fabric', {}, of(false, null)), found('on-fabric', {}, of(true, now))]).toEqual([['true', now + 1], ['false', null], ['unknown', null]])
  })
})

describe('an agent', () => {
  const of = (more: Partial<Sections['agent']>) => fact('agent', { version: '1.4', protocol: '7.0.0', profileVersion: 0, rulesVersion: 0, ...more })
  it('is of a version, or of one that can not be compared', () => {
    expect(['>=', '<'].map((comparator) => found('agent-version', { comparator, version: '1.4.0' }, of({}))[0])).toEqual(['true', 'false'])
    expect(found('agent-version', { comparator: '>=', version: '1' }, of({ version: '1.4-beta' }))).toEqual(['unknown', null])
  })
  it('has a feature on, off, or does not tell', () => {
    expect([{ features: ['a', 'tunnel'] }, { features: [] }, {}].map((more) => found('agent-feature', { feature: 'tunnel' }, of(more))[0])).toEqual(['true', 'false', 'unknown'])
  })
})

describe('a user', () => {
  const verified = (more: Partial<Sections['identity']> = {}) => fact('identity', { issuer: 'idp', subject: 's1', email: 'a@x.org', groups: ['staff'], authenticatedAt: now - hour, expiresAt: null, ...more })
  it.each<[string, Record<string, unknown>, Facts, Told]>([
    ['as the device says', { users: ['Alice', 'bob'] }, fact('user', { account: 'alice' }), ['true', null]], ['is another', { users: ['bob'] }, fact('user', { account: 'alice' }), ['false', null]], ['whose e-mail is not told', { users: ['a@x.org'] }, fact('user', { account: 'alice' }), ['unknown', null]],
    ['that the device names is not verified', { verified: true }, fact('user', { account: 'alice' }), ['unknown', null]], ['is verified', { verified: true }, verified(), ['true', null]], ['is verified, for so long', { verified: true, authenticatedWithinSeconds: 7200 }, verified(), ['true', now + hour]],
    ['was verified too long ago', { verified: true, authenticatedWithinSeconds: 3600 }, verified(), ['unknown', null]], ['was verified until now', { verified: true }, verified({ expiresAt: now }), ['unknown', null]],
    ['is verified by the subject', { verified: true, users: ['s1'] }, verified(), ['true', null]], ['has another\'s subject but for its case', { verified: true, users: ['S1'] }, verified(), ['false', null]], ['looks like another', { verified: true, users: ['kim@x.org', 'kim'] }, verified({ email: 'a@x.org', subject: '\u212aim' }), ['false', null]], ['has a subject like another\'s e-mail', { verified: true, users: ['kim@x.org'] }, verified({ email: undefined, subject: 'kim@x.org' }), ['unknown', null]],
    ['looks like another, as the device says', { users: ['kim'] }, fact('user', { account: '\u212aim' }), ['false', null]], ['is the same in another case', { users: ['GRÖẞE\\K\u0131m'] }, fact('user', { account: 'größe\\k\u0131m' }), ['true', null]],
    ['is of another issuer', { verified: true, issuer: 'x' }, verified(), ['false', null]], ['is another verified one', { verified: true, users: ['b@x.org'] }, verified(), ['false', null]], ['is not in the group', { verified: true, groups: ['admins'] }, verified(), ['false', null]],
  ])('%s', (_, params, facts, told) => { expect(found('user-identity', params, facts)).toEqual(told) })
  it('of groups or of an age is verified, or refused with its place', () => {
    expect(places('user-identity', { users: ['a'], groups: ['g'], authenticatedWithinSeconds: 60 })).toEqual(['groups: needs "verified": true', 'authenticatedWithinSeconds: needs "verified": true'])
    expect(places('user-identity', {})).toEqual(['users: name users, or ask for any that is verified'])
  })
})

describe.each(['linux', 'windows', 'macos'] as const)('the protection of %s', (os) => {
  const turned = (value: unknown, to: string): unknown => (Array.isArray(value) ? value.map((each) => turned(each, to))
    : typeof value === 'object' && value !== null ? Object.fromEntries(Object.entries(value).map(([name, each]) => [name, turned(each, to)]))
      : value === 'on' || value === 'off' ? to : value === 'enforcing' ? to === 'off' ? 'disabled' : 'unknown' : value)
  const facts = (to: string): Facts => ({ security: { at: now, provenance: 'claimed', value: turned(secured[os].security.value, to) as Sections['security'] } })
  const { linux: _, windows: __, macos: ___, ...bare } = secured[os].security.value
  it.each(checks[os])('%s is on, off, or not seen', (check) => {
    expect([secured[os], facts('off'), facts('unknown')].map((each) => found(`${os}-security`, { check }, each, os)[0])).toEqual(['true', 'false', 'unknown'])
    expect(found(`${os}-security`, { check }, fact('security', { ...bare, secureBoot: 'unknown' }), os)[0]).toBe('unknown')
  })
  it('is refused where there is no such check', () => { expect(places(`${os}-security`, { check: 'x' })).toEqual([expect.stringContaining('check: ')]) })
})
describe('several that make one', () => {
  it('are on when each is, as drives and profiles', () => {
    const drives = (...states: ('on' | 'off' | 'unknown')[]) => fact('security', { ...secured.windows.security.value, windows: { bitlocker: states.map((state, n) => ({ drive: `${'CDE'[n]}:`, state, system: n === 0 })) } })
    expect([drives('on', 'on'), drives('on', 'off'), drives('on', 'unknown'), drives()].map((each) => found('windows-security', { check: 'bitlocker-all' }, each, 'windows')[0])).toEqual(['true', 'false', 'unknown', 'unknown'])
    expect(found('windows-security', { check: 'bitlocker-system' }, drives('on', 'off'), 'windows')[0]).toBe('true')
  })
  it('are on when one is, as firewalls, and a mode that only logs is none', () => {
    const linux = (more: NonNullable<Sections['security']['linux']>) => fact('security', { ...secured.linux.security.value, linux: more })
    expect([linux({ nftables: 'off', ufw: 'on' }), linux({ nftables: 'off', ufw: 'off', firewalld: 'off' }), linux({ nftables: 'off' })].map((each) => found('linux-security', { check: 'firewall' }, each)[0])).toEqual(['true', 'false', 'unknown'])
    expect([linux({ selinux: 'permissive', apparmor: 'disabled' }), linux({ selinux: 'disabled', apparmor: 'complaining' }), linux({ selinux: 'unknown', apparmor: 'enforcing' })].map((each) => found('linux-security', { check: 'mandatory-access-control' }, each)[0])).toEqual(['false', 'false', 'true'])
  })
})
