// What people read: everything that matters, and nothing that speaks to their terminal.
import { describe, expect, it } from 'vitest'
import { sentenceFor } from '../../agent/failure.ts'
import type { AgentStatus } from '../../agent/local-status.ts'
import { describeExplanation, describeSignIn, describeStatus } from '../../agent/print.ts'
import { Fault } from '../../protocol/faults.ts'

const NOW = 1_800_000_000_000
const status: AgentStatus = {
  enrolled: true, uid: 'a'.repeat(32), ems: 'https://ems.example.com', version: '1', certificate: { serial: 'x', notAfter: NOW }, profile: null, licence: null, channel: 'waiting', lastReportAt: null, sequence: 1, clockOffsetMs: 0,
  tunnel: { running: false, reason: 'port 8630 can not be had' }, pacUrl: null, transparent: null, tags: null, identity: { state: 'unknown' }, denials: [], troubles: [],
}
const denial = { at: NOW - 180_000, destination: 'wiki.corp.test:443', decision: 'D0123456789AB-0123456789ABCDEF', code: '065', reason: 'tag-missing', message: 'It needs the tag "managed".', tags: ['managed'] }
const condition = { type: 'file', negate: true, value: 'true' as const, seen: 'exists', wanted: 'not: file "/x" exists', section: 'verdicts', factAt: NOW - 60_000, provenance: 'claimed' as const, mend: 'Remove "/x".' }
const tag = { tagUid: 'b', tag: 'managed', state: 'absent' as const, validUntil: null, ruleSets: [{ id: 'c', name: 'rules', value: 'false' as const, logic: '1', message: 'Ask the help desk.', conditions: [condition] }] }
const decision = {
  id: 'D0123456789AB-0123456789ABCDEF', at: NOW - 180_000, gateway: 'SPGW0123456789AB', allowed: false, reason: 'user-unverified' as const, code: '066', event: 'decide' as const, uid: null, certificateSerial: null, protocol: 'tcp' as const,
  service: 'wiki', destination: 'wiki.corp.test:443', policy: 'staff', tags: [], revision: '1.a', snapshotAgeMs: 0, source: '127.0.0.1:1', validUntil: null, session: null,
}

describe('the status', () => {
  it('says what there is, and what is missing', () => {
    const text = describeStatus(status, NOW)
    for (const part of ['none has been assigned', 'not told', 'waiting', 'never', 'not running: port 8630', 'not known: the EMS does not answer']) expect(text).toContain(part)
    expect(text).not.toContain('clock')
    for (const [identity, shown] of [
      [{ state: 'nobody' }, 'signed in    nobody is signed in (agent sign-in)\n'],
      [{ state: 'somebody', provider: 'okta', user: { issuer: 'https://okta.test', subject: 'x', email: 'ada@example.com', name: 'Ada\u001b[2J', authenticatedAt: NOW, expiresAt: NOW + 60_000 } }, 'signed in    ada@example.com (Ada\uFFFD[2J) by okta, since 2027-01-15T08:00:00.000Z, until 2027-01-15T08:01:00.000Z\n'],
      [{ state: 'somebody', provider: 'okta', user: { issuer: 'https://okta.test', subject: 'x', authenticatedAt: NOW, expiresAt: null } }, 'signed in    x by okta, since 2027-01-15T08:00:00.000Z, until you sign out\n'],
    ] as const) expect(describeStatus({ ...status, identity }, NOW)).toContain(shown)
    const inGroups = (groups?: string[]) => describeStatus({ ...status, identity: { state: 'somebody', provider: 'okta', user: { issuer: 'https://okta.test', subject: 'x', ...(groups === undefined ? {} : { groups }), authenticatedAt: NOW, expiresAt: null } } }, NOW)
    for (const [groups, shown] of [[undefined, 'no e-mail address that counts; the provider tells no groups'], [[], 'groups: none'], [['staff', 'on\u001bcall'], 'groups: staff, on\uFFFDcall'], [Array.from({ length: 14 }, (_, at) => `g${at}`), 'g11 and 2 more']] as const) expect(inGroups(groups?.slice())).toContain(`${shown}\n`)
    const signIn = (email?: string) => describeSignIn({ provider: 'okta', user: { issuer: 'https://okta.test', subject: 'x', ...(email === undefined ? {} : { email }), authenticatedAt: NOW, expiresAt: null } })
    expect([signIn('ada@example.com'), signIn()].map((text) => text.includes('what asks for one stays closed'))).toEqual([false, true])
    const refused = (reason: string, tags: AgentStatus['tags'] = null, message = 'No.') => describeStatus({ ...status, tags, denials: [{ ...denial, reason, message }] }, NOW)
    expect(refused('user-unverified')).toMatch(/: No\.\n +Sign in: agent sign-in\n/)
    expect(refused('user-mismatch')).toMatch(/: No\.\n +Sign in as a user who may: agent sign-in\n/)
    expect(refused('user-unverified', null, 'Run "agent sign-in".')).not.toContain('Sign in:')
    expect(refused('tag-missing', [{ tag: 'managed', state: 'absent', needsSignIn: true }])).toMatch(/managed: absent \(agent sign-in; agent explain "managed"\)[^]*\n +Sign in: agent sign-in\n/)
    expect(refused('tag-missing', [{ tag: 'other', state: 'absent', needsSignIn: true }])).not.toContain('Sign in:')
    const full = describeStatus({ ...status, profile: { id: 'x', name: 'p', policy: 'q', version: 1 }, licence: { state: 'seated', features: [], endsAt: null }, lastReportAt: NOW - 7_200_000, clockOffsetMs: -300_000, tunnel: { running: true, httpPort: 1, socksPort: 2 }, pacUrl: 'http://127.0.0.1:1/secret/proxy.pac', transparent: { asked: true, served: ['wiki.corp.test', '10.0.0.0/8'], lacking: ['git.corp.test port 22: another program has it'] }, tags: [{ tag: 'a', state: 'present' }, { tag: 'b c', state: 'unknown' }], denials: [denial], troubles: [{ kind: 'storage', since: NOW, sentence: 'The disk is full. Make room.' }] }, NOW)
    for (const part of ['p, by the policy "q"', 'seated', '2 h ago', '5 min ahead', '/secret/proxy.pac', 'transparent  wiki.corp.test, 10.0.0.0/8', 'not git.corp.test port 22: another program has it', 'HTTP 127.0.0.1:1, SOCKS5 127.0.0.1:2', 'a\n', 'b c: unknown (agent explain "b c")', 'wiki.corp.test:443, 3 min ago', 'agent explain D0123456789AB-0123456789ABCDEF', 'The disk is full. Make room. (since just now)']) expect(full).toContain(part)
  })
})

describe('an explanation', () => {
  it('names the rule, what was seen, what was wanted and how to mend it', () => {
    const text = describeExplanation({ denial: null, decision: null, tags: [tag] }, NOW)
    for (const part of ['Tag "managed": absent', 'rule set "rules": false. Ask the help desk.', '✗ wanted: not: file "/x" exists\n', 'seen:   exists (claimed, 1 min ago)', 'mend:   Remove "/x".']) expect(text).toContain(part)
    expect(describeExplanation({ denial, decision: null, tags: [] }, NOW)).toContain('Refused: wiki.corp.test:443 (065 tag-missing), 3 min ago\n  It needs the tag')
    const never = { ...tag, ruleSets: tag.ruleSets.map((ruleSet) => ({ ...ruleSet, conditions: [{ ...condition, factAt: null, provenance: null }] })) }
    expect(describeExplanation({ denial: null, decision: null, tags: [never] }, NOW)).toContain('seen:   exists (not reported)\n')
  })

  it('of a decision says what the gateway said and what the person can do, where the agent was told and where not', () => {
    const told = describeExplanation({ denial: { ...denial, message: 'Nobody has signed in.' }, decision, tags: [] }, NOW)
    expect(told).toBe('Refused: wiki.corp.test:443 (066 user-unverified), 3 min ago\n  Nobody has signed in.\n  Sign in: agent sign-in\n  by the policy "staff" for the service "wiki"')
    expect(describeExplanation({ denial: null, decision, tags: [] }, NOW)).toContain('3 min ago\n  Sign in: agent sign-in\n')
    expect(describeExplanation({ denial: null, decision: { ...decision, allowed: true }, tags: [] }, NOW)).not.toContain('Sign in')
  })

  it('of an outbreak says how to be rid of it, and frightens nobody who has it not', () => {
    const worm = (value: 'true' | 'false') => describeExplanation({ denial: null, decision: null, tags: [{ ...tag, outbreak: true, ruleSets: [{ ...tag.ruleSets[0], value, message: 'You have a worm.', conditions: [{ ...condition, negate: false, value }] }] } as typeof tag] }, NOW)
    for (const part of ['You have a worm.', 'mend:   Remove "/x".']) expect([worm('true').includes(part), worm('false').includes(part)]).toEqual([true, false])
  })

  it.each(['\u001b[2J', '\u0007', '\r', '\n\nAllowed: everything', '\u202e', '\u009b31m', '\ud800'])('does not let %j through, wherever it comes from', (evil) => {
    const hostile = { ...tag, tag: evil, ruleSets: [{ ...tag.ruleSets[0], name: evil, message: evil, conditions: [{ ...condition, seen: evil, wanted: evil, mend: evil }] }] }
    const texts = [
      describeExplanation({ denial: null, decision: null, tags: [hostile as typeof tag] }, NOW), describeExplanation({ denial: { ...denial, destination: evil, message: evil }, decision: null, tags: [] }, NOW),
      describeStatus({ ...status, ems: evil, tags: [{ tag: evil, state: 'present' }], denials: [{ ...denial, message: evil }], troubles: [{ kind: 'ems', since: NOW, sentence: evil }] }, NOW),
    ]
    for (const text of texts) for (const line of text.split('\n')) expect(line).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202e]|^Allowed/)
  })
})

describe('a failure', () => {
  it('says what happened and what to do next', () => {
    const system = (code: string, more: object = {}) => Object.assign(new Error(`${code}: no`), { code, syscall: 'open', ...more })
    expect(sentenceFor(new Fault('busy', 'The EMS was not reached'))).toBe('The EMS was not reached. Check the network and that the EMS runs, then try again.')
    expect(sentenceFor(new Fault('invalid', 'No.', { errors: [{ pointer: '/csr', detail: 'must be one' }] }))).toBe('No. (/csr must be one)')
    expect(sentenceFor(new Fault('not_found', 'Start it: agent run --state /x'))).toBe('Start it: agent run --state /x')
    expect(sentenceFor(system('ENOSPC', { path: '/state/x' }))).toBe('/state/x: the disk is full. Make room.')
    expect(sentenceFor(system('EWEIRD'))).toBe('EWEIRD: no.')
    expect([sentenceFor(new Error('plain')), sentenceFor('text'), sentenceFor(undefined)]).toEqual(['plain', 'text', 'undefined'])
  })
})
