import { describe, expect, it } from 'vitest'
import { lintPolicies } from '../../../domain/access/lint-policies.ts'
import { NOW, compile, policiesOf } from './access-under-test.ts'

const lint = (policies: ReturnType<typeof policiesOf>, tags: string[] | null = null) => lintPolicies(policies, { tagsByName: tags === null ? null : new Map(tags.map((tag) => [tag, []])), now: NOW })
const two = (first: string, second: string) => lint(policiesOf(`[{name: one, services: [s], ${first}}, {name: two, services: [s], ${second}}]`)).filter((sentence) => sentence.includes('never decides'))

describe('the lint', () => {
  it('tells of a rule that one above it shadows', () => {
    for (const [first, second] of [['tags: {all: [a]}, action: allow', 'tags: {all: [a, b]}, action: deny'], ['tags: {any: [a, b]}, action: deny', 'tags: {any: [a]}, action: allow'], ['tags: {any: [a]}, action: deny', 'tags: {all: [a]}, action: allow'],
      ['action: deny', 'tags: {all: [a]}, device: {online: true}, action: allow'], ['tags: {none: [a]}, action: allow', 'tags: {none: [a, b]}, action: allow'],
      ['users: [a@b.test, c@b.test], action: allow', 'tags: {all: [a]}, users: [a@b.test], authenticatedWithinSeconds: 600, action: allow'], ['groups: [x, y], authenticatedWithinSeconds: 900, action: deny', 'groups: [y], authenticatedWithinSeconds: 600, action: allow'], ['verifiedUser: true, action: allow', 'groups: [y], action: allow'],
      ['groups: [x, y], action: deny', 'groups: [y, x], action: deny'], ['action: allow', 'users: [a@b.test], action: deny'], ['verifiedUser: true, issuer: https://i.test, action: allow', 'groups: [y], issuer: https://i.test, action: allow'],
      ['geo: {countries: [DE, FR]}, action: deny', 'tags: {all: [a]}, geo: {countries: [FR]}, action: allow'], ['tags: {all: [a]}, until: "2030-01-01T00:00:00Z", action: allow', 'tags: {all: [a]}, until: "2029-01-01T00:00:00Z", action: allow']] as const) expect(two(first, second), `${first} / ${second}`).toHaveLength(1)
  })
  it('and not of one that can decide', () => {
    for (const [first, second] of [['tags: {all: [a, b]}, action: allow', 'tags: {all: [a]}, action: allow'], ['tags: {any: [a]}, action: allow', 'tags: {any: [a, b]}, action: allow'], ['tags: {all: [a]}, device: {online: true}, action: allow', 'tags: {all: [a]}, action: allow'],
      ['tags: {all: [a]}, until: "2028-01-01T00:00:00Z", action: allow', 'tags: {all: [a]}, action: allow'], ['tags: {all: [a]}, schedule: {timeZone: UTC}, action: allow', 'tags: {all: [a]}, action: allow'],
      ['users: [a@b.test], action: allow', 'action: allow'], ['users: [a@b.test], action: deny', 'tags: {all: [a]}, action: allow'], ['users: [a@b.test], action: allow', 'users: [a@b.test, c@b.test], action: allow'], ['groups: [x], action: allow', 'users: [a@b.test], action: allow'],
      ['groups: [x], authenticatedWithinSeconds: 600, action: allow', 'groups: [x], action: allow'], ['groups: [x], issuer: https://i.test, action: allow', 'groups: [x], action: allow'], ['users: [a@b.test], action: allow', 'users: [A@b.test], action: allow'],
      // One that denies does so on whom nobody vouches for: the one above passes him over, or does not name what is not known of him.
      ['groups: [x], action: allow', 'groups: [x], action: deny'], ['groups: [x, y], action: deny', 'groups: [x], action: deny'], ['groups: [x], action: deny', 'groups: [x], authenticatedWithinSeconds: 600, action: deny'],
      ['geo: {countries: [DE]}, action: deny', 'tags: {all: [a]}, action: allow'], ['mode: report, action: deny', 'tags: {all: [a]}, action: allow'], ['tags: {none: [a]}, action: allow', 'tags: {all: [b]}, action: allow']] as const) expect(two(first, second), `${first} / ${second}`).toEqual([])
  })
  it('tells of rules without posture, services that nobody reaches, rules that ended, tags that nobody has', () => {
    expect(lint(policiesOf('[{name: p, services: [s], action: allow}]'))).toEqual([expect.stringContaining('whatever their posture')])
    expect(lint(policiesOf('[]'))).toEqual([expect.stringContaining('nobody reaches it')])
    expect(lint(policiesOf('[{name: p, services: [s], tags: {all: [a]}, until: "2020-01-01T00:00:00Z", action: allow}]'))).toEqual(['Policy "p" ended on 2020-01-01T00:00:00.000Z.'])
    expect(lint(policiesOf('[{name: p, services: [s], tags: {all: [a], none: [mispelt]}, action: allow}]'), ['a'])).toEqual(['Policy "p" uses the tag "mispelt", which the EMS does not know.'])
  })
  it('tells of rules by users alone, which are no posture, and of subjects that two providers may both know', () => {
    expect(lint(policiesOf('[{name: p, services: [s], users: [a@b.test], action: allow}]'))).toEqual([expect.stringContaining('whatever their posture')])
    expect(lint(policiesOf('[{name: p, services: [s], tags: {all: [a]}, users: [a@b.test, s-1], action: allow}]'))).toEqual(['Policy "p" names the subject "s-1" but no issuer: another identity provider may call somebody else so.'])
    expect(lint(policiesOf('[{name: p, services: [s], tags: {all: [a]}, users: [s-1], issuer: https://i.test, action: allow}]'))).toEqual([])
  })
  it('tells of certificates that say more than the service at whose hosts they are good too', () => {
    const together = (one: string, two: string) => lint(compile(`services: [{name: one, protocol: tcp, match: [a.test], ports: [22], ssh: ${one}}, {name: two, protocol: tcp, match: [b.test], ports: [22], ssh: ${two}}]\npolicies: []`)).filter((sentence) => sentence.includes('one CA'))
    for (const [one, two] of [['{principals: [root]}', '{}'], ['{}', '{forceCommand: uptime}'], ['{forceCommand: sh}', '{forceCommand: uptime}'], ['{extensions: [permit-pty, permit-port-forwarding]}', '{}'], ['{}', '{sourceAddresses: [10.0.0.1]}'], ['{certificateSeconds: 3600}', '{}'],
      ['{principal: subject, issuers: ["https://i.test"]}', '{}'], ['{}', '{issuers: ["https://i.test"]}'], ['{emailDomains: [a.test, b.test]}', '{emailDomains: [a.test]}']] as const) {
      expect(together(one, two), `${one} / ${two}`).toContain('Whoever reaches the services "one" and "two" may use a certificate for "one" at the hosts of "two", which gives less: one CA signs for both.')
    }
    for (const [one, two] of [['{}', '{}'], ['{principals: [a, b]}', '{principals: [b, a]}'], ['{forceCommand: uptime}', '{forceCommand: uptime}'], ['{sourceAddresses: [10.0.0.1]}', '{sourceAddresses: [10.0.0.1, 10.0.0.2]}']] as const) {
      expect(together(one, two).filter((sentence) => sentence.includes('certificate for "one"')), `${one} / ${two}`).toEqual([])
    }
  })
  it('tells of a rule that names countries where no database does', () => {
    const text = (geo: string) => `${geo}services: [{name: s, protocol: tcp, match: [h.test], ports: [22]}]\npolicies: [{name: p, services: [s], tags: {all: [a]}, geo: {countries: [DE]}, action: allow}]`
    expect(lint(compile(text('')))).toEqual(['Policy "p" names countries, but no geo.databaseFile says where addresses are: it lets nobody in.'])
    expect(lint(compile(text('geo: {databaseFile: country.mmdb}\n')))).toEqual([])
  })
  it('tells of a place that two services declare, and of an anonymous one that nobody can reach so', () => {
    const sentences = lint(compile(`services:
  - {name: one, protocol: https, match: [h.test], paths: [/a], upstream: http://u.test}
  - {name: two, protocol: https, match: [h.test], paths: [/a, /b], upstream: http://u.test, anonymous: true}
policies: [{name: p, services: [one, two], tags: {all: [a]}, action: allow}]`))
    expect(sentences).toEqual(['The service "two" is never found at h.test:1-65535/a: "one" above it is declared there.', expect.stringContaining('noCertificate blocks')])
  })
})
