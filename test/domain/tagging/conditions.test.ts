// What each type of condition says of what it sees.
import { describe, expect, it } from 'vitest'
import type { Observation } from '../../../domain/tagging/condition-type.ts'
import { compareVersions } from '../../../domain/tagging/dotted-version.ts'
import type { Device, FileFacts } from '../../../domain/tagging/device.ts'
import { readCondition } from '../../../domain/tagging/registry.ts'
import { not } from '../../../domain/tagging/logic.ts'
import { sections } from '../../../protocol/facts.ts'
import type { Condition } from '../../../protocol/rules.ts'
import { agent, answers, atLeast, evaluate, managed, marker, negated, network, now, office, os, ruleSet, scan, sshd, stateOf, vulnerable } from './endpoint-facts.ts'

const hash = 'a'.repeat(64)
const refused = (condition: Condition) => !readCondition(condition).ok
const deviceWith = (file: FileFacts, processes: { name: string; path: string }[] = []): Device => ({ fileFacts: () => Promise.resolve(file), processes: () => Promise.resolve(processes) })
const readable = (sha256: string | null): FileFacts => ({ exists: true, sha256: () => Promise.resolve(sha256) })
async function observe(condition: Condition, device: Device): Promise<Observation> {
  const read = readCondition(condition)
  if (!read.ok || read.type.side !== 'agent') throw new Error(`${condition.type} is not asked on the device`)
  return await read.type.observe(read.params, device, now)
}

describe('an OS version', () => {
  it.each([['12.8', '12', 1], ['12', '12.0.0', 0], ['9.9', '10', -1], ['10.0.22631', '10.0.22000', 1], ['1.10', '1.9', 1]])('orders %s against %s as %i', (a, b, order) => {
    expect(compareVersions(a, b)).toBe(order)
    expect(compareVersions(b, a)).toBe(order === 0 ? 0 : -order)
  })
  it.each(['', 'rolling', '13rc1', '12.', '.8', '12..8', '1234567890', '12 8', '-1', '1e3', '12.8\n'])('takes "%s" for no version: unknown, negated too', (version) => {
    expect(compareVersions(version, '12')).toBeNull()
    expect(stateOf([atLeast('1')], { os: os(version) })).toBe('unknown')
    expect(stateOf([negated(atLeast('1'))], { os: os(version) })).toBe('unknown')
  })
  it.each([['=', '12.8', true], ['=', '12', false], ['>=', '12.8', true], ['>', '12.8', false], ['>', '12.7', true], ['<=', '12.8', true], ['<', '12.8', false], ['<', '12.10', true]])('of 12.8 asked for %s %s holds: %s', (comparator, version, holds) => {
    expect(stateOf([{ ...atLeast(version), comparator }], { os: os('12.8') })).toBe(holds ? 'present' : 'absent')
  })
  it('of another product does not hold', () => {
    expect(stateOf([{ ...atLeast('1'), name: 'debian' }], { os: os() })).toBe('present')
    expect(stateOf([{ ...atLeast('1'), name: 'Ubuntu' }], { os: os() })).toBe('absent')
  })
  it('that is no version is refused in a rule', () => {
    for (const version of ['', 'latest', '12.x', '1.2.3.4.5.6.7']) expect(refused(atLeast(version)), version).toBe(true)
    expect(refused({ ...atLeast('12'), comparator: '!=' })).toBe(true)
  })
})

describe('an IP range', () => {
  it('takes v4 and v6 and never mixes them', () => {
    for (const ip of ['10.1.2.3', 'fd00::1', '::ffff:10.1.2.3']) expect(stateOf([office], { os: os(), network: network('192.168.1.1', ip) }), ip).toBe('present')
    for (const ip of ['192.168.1.1', '2001:db8::1', '11.0.0.0', '::ffff:11.0.0.1']) expect(stateOf([office], { os: os(), network: network(ip) }), ip).toBe('absent')
    expect(stateOf([{ ...office, ranges: ['::/0'] }], { os: os(), network: network('10.1.2.3') })).toBe('absent')
    expect(stateOf([{ ...office, ranges: ['::ffff:10.0.0.0/104'] }], { os: os(), network: network('10.1.2.3') })).toBe('present')
  })
  it('is unknown without a report of the network and false without an address', () => {
    expect([stateOf([office], { os: os() }), stateOf([negated(office)], { os: os() })]).toEqual(['unknown', 'unknown'])
    expect(stateOf([office], { os: os(), network: network() })).toBe('absent')
  })
  it('that is no range is refused in a rule, and so is a list without end', () => {
    for (const range of ['10.0.0.0', '10.0.0.0/33', '010.0.0.0/8', 'fe80::1%eth0/64', 'x', '::1/129']) expect(refused({ ...office, ranges: [range] }), range).toBe(true)
    expect(refused({ ...office, ranges: [] })).toBe(true)
    expect(refused({ ...office, ranges: Array.from({ length: 257 }, () => '10.0.0.0/8') })).toBe(true)
  })
  it('costs a report of every address that fits no minute of the Worker', () => {
    const many = network(...Array.from({ length: 2048 }, (_, n) => `2001:db8::${n.toString(16)}`))
    const before = process.cpuUsage()
    expect(stateOf([{ ...office, ranges: Array.from({ length: 256 }, (_, n) => `fd00:${n.toString(16)}::/32`) }], { os: os(), network: many })).toBe('absent')
    expect(process.cpuUsage(before).user / 1_000).toBeLessThan(1500)
  })
})

describe('vulnerabilities', () => {
  const clean = (severity: Parameters<typeof vulnerable>[0], ...found: Parameters<typeof scan>[0][number][]) => stateOf([negated(vulnerable(severity))], { os: os(), vulnerabilities: scan(found) })
  it('count from the severity that is asked for', () => {
    expect([clean('high'), clean('high', 'medium'), clean('high', 'low', 'high'), clean('high', 'critical')]).toEqual(['present', 'present', 'absent', 'absent'])
  })
  it('without a severity clear nobody, and taint who is tainted anyway', () => {
    expect([clean('high', 'unrated'), clean('info', 'unrated'), clean('high', 'unrated', 'high'), clean('unrated', 'unrated')]).toEqual(['unknown', 'unknown', 'absent', 'absent'])
    expect(stateOf([vulnerable('high')], { os: os(), vulnerabilities: scan(['unrated']) })).toBe('unknown')
  })
  it('become unknown when the scan grows too old, at the instant that was told', () => {
    const facts = { os: os(), vulnerabilities: scan(['low'], now - 1000) }
    const rules = [ruleSet(1, { conditions: [negated(vulnerable('high', 60))] })]
    const due = now - 1000 + 60_000
    expect(evaluate(rules, facts)).toMatchObject({ nextDue: due, tags: [{ state: 'present', validUntil: due }] })
    expect(evaluate(rules, facts, due - 1).tags[0]?.state).toBe('present')
    expect(evaluate(rules, facts, due)).toMatchObject({ nextDue: null, tags: [{ state: 'unknown', validUntil: null }] })
  })
  it('of a scan dated in the future age from the report', () => {
    const facts = { os: os(), vulnerabilities: scan([], now + 1e12, now) }
    expect(evaluate([ruleSet(1, { conditions: [negated(vulnerable('high', 60))] })], facts).nextDue).toBe(now + 60_000)
  })
})

describe('EMS management', () => {
  it('holds once the agent has reported itself and is unknown before', () => {
    expect([stateOf([managed], { os: os(), agent: agent() }), stateOf([managed], { os: os() })]).toEqual(['present', 'unknown'])
  })
})

describe('a file', () => {
  const without = { ...marker, exists: false }
  const hashed = { ...marker, sha256: hash }
  it.each<[string, Condition, FileFacts, Observation]>([
    ['is there', marker, readable(null), { value: 'true', seen: 'exists' }],
    ['is not there', marker, { exists: false }, { value: 'false', seen: 'does not exist' }],
    ['must not be there and is not', without, { exists: false }, { value: 'true', seen: 'does not exist' }],
    ['must not be there and is', without, readable(null), { value: 'false', seen: 'exists' }],
    ['must not be there and can not be seen', without, 'unreadable', { value: 'unknown', seen: 'can not be read' }],
    ['can not be seen', marker, 'unreadable', { value: 'unknown', seen: 'can not be read' }],
    ['has the hash', hashed, readable(hash), { value: 'true', seen: `has SHA-256 ${hash}` }],
    ['has another hash', hashed, readable('b'.repeat(64)), { value: 'false', seen: `has SHA-256 ${'b'.repeat(64)}` }],
    ['is there and can not be hashed', hashed, readable(null), { value: 'unknown', seen: 'can not be read' }],
    ['is not there to be hashed', hashed, { exists: false }, { value: 'false', seen: 'does not exist' }],
  ])('%s', async (_, condition, facts, expected) => { expect(await observe(condition, deviceWith(facts))).toEqual(expected) })
  it('is refused in a rule when its path is relative, too long or not printable, or when it can not be both', () => {
    for (const path of ['', 'etc/x', '../x', `/${'x'.repeat(1024)}`, '/etc/\u0000x', '/etc/\nx', '/etc/\u202ex']) expect(refused({ ...marker, path }), JSON.stringify(path)).toBe(true)
    for (const path of ['/etc/x', `/${'x'.repeat(1023)}`, 'C:\\x']) expect(refused({ ...marker, path }), path).toBe(false)
    expect(refused({ ...hashed, exists: false })).toBe(true)
    expect(refused({ ...marker, sha256: hash.toUpperCase() })).toBe(true)
    expect(refused({ ...marker, other: 1 })).toBe(true)
  })
})

describe('a process', () => {
  const from = (...paths: string[]) => deviceWith('unreadable', paths.map((path) => ({ name: 'sshd', path })))
  const placed = { ...sshd, path: '/usr/sbin/sshd' }
  it.each<[string, Condition, Device, Observation]>([
    ['runs', sshd, from(''), { value: 'true', seen: 'running' }],
    ['does not run', sshd, deviceWith('unreadable', [{ name: 'ssh', path: '' }]), { value: 'false', seen: 'not running' }],
    ['runs from its path', placed, from('/tmp/sshd', '/usr/sbin/sshd'), { value: 'true', seen: 'running' }],
    ['runs from another path', placed, from('/tmp/sshd'), { value: 'false', seen: 'running from "/tmp/sshd"' }],
    ['runs from where the agent can not see', placed, from('/tmp/sshd', ''), { value: 'unknown', seen: 'running, from where can not be seen' }],
  ])('%s', async (_, condition, device, expected) => { expect(await observe(condition, device)).toEqual(expected) })
  it('is seen alike whatever the order of the list', async () => {
    expect(await observe(placed, from('/b', '/a', '/b'))).toEqual(await observe(placed, from('/a', '/b')))
  })
})

describe('an answer of the agent', () => {
  it('counts for this very question only', () => {
    const facts = { os: os(), verdicts: answers([[marker, 'true']]) }
    expect([stateOf([marker], facts), stateOf([negated(marker)], facts), stateOf([{ ...marker, path: '/etc/other' }], facts), stateOf([{ ...marker, exists: false }], facts)]).toEqual(['present', 'absent', 'unknown', 'unknown'])
  })
  it.each(['unknown', 'unsupported'] as const)('that is %s passes nothing, negated or not', (value) => {
    const facts = { os: os(), verdicts: answers([[marker, value]]) }
    expect([stateOf([marker], facts), stateOf([negated(marker)], facts)]).toEqual(['unknown', 'unknown'])
  })
  it('keeps its end when it is negated', () => { expect(not({ value: 'true', validUntil: 5 })).toEqual({ value: 'false', validUntil: 5 }) })
  it('is a section that the contract takes', () => { expect(sections.verdicts.safeParse(answers([[marker, 'true']]).value).success).toBe(true) })
})
