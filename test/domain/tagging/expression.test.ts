// Expressions over all facts: what they mean, what is refused and at which character, and what they may cost.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compileRules } from '../../../domain/tagging/compile.ts'
import { compileExpression } from '../../../domain/tagging/expression/compile.ts'
import { readable, sectionShape } from '../../../domain/tagging/expression/shape.ts'
import { checkRuleSet } from '../../../domain/tagging/rule-set.ts'
import { verdictOf } from '../../../domain/tagging/verdict.ts'
import type { Facts, Sections } from '../../../protocol/facts.ts'
import { instant } from '../../../protocol/text.ts'
import { now, ruleSet } from './endpoint-facts.ts'
import { asked, examples, fact, osOf, secured } from './examples.ts'

const hour = 3_600_000
const { antivirus, vulnerabilities, network, directory } = Object.assign({}, ...examples.map(({ facts }) => facts)) as Required<Facts>
const scores = (more: Sections['scores']['sources'] = {}) => fact('scores', { sources: { edr: { score: 71.5, at: now - hour, expiresAt: now + hour }, ...more } })
const all: Facts = { ...osOf('linux'), ...secured.linux, ...scores(), antivirus, vulnerabilities, network, directory }
function found(expression: string, facts: Facts = all, at = now) {
  const [condition] = compileRules([ruleSet(1, { conditions: [asked('custom', { expression })] })], 1).byOs.linux[0]?.conditions ?? []
  if (condition === undefined) throw new Error(JSON.stringify(compileExpression(expression)))
  return verdictOf(condition, 'linux', facts, at)
}
const refusal = (source: string): string => {
  const compiled = compileExpression(source)
  return compiled.ok ? '' : compiled.detail
}

describe('an expression', () => {
  it.each<[string, string]>([
    ['os.type == "linux"', 'true'], ['os.type != "linux"', 'false'], ['!(os.type == "windows")', 'true'], ['os.type in ["linux", "macos"]', 'true'],
    ['versionAtLeast(os.version, "12.8")', 'true'], ['versionAtLeast(os.version, "12.10")', 'false'], ['os.name.startsWith("Debian") && os.name.endsWith("Linux") && os.name.contains("GNU")', 'true'], ['os.name.lowerAscii() == "debian gnu/linux"', 'true'], ['os.name.matches("^[A-Z][a-z]+ GNU")', 'true'],
    ['scores.sources.edr.score >= 71.5', 'true'], ['scores.sources["edr"].score * 2 - 1 == 142', 'true'], ['scores.sources.edr.score > 100 ? os.type == "macos" : os.type == "linux"', 'true'],
    ['scores.sources.exists(name, scores.sources[name].score > 70)', 'true'], ['"edr" in scores.sources', 'true'], ['antivirus.products.exists(p, p.running == "on")', 'true'], ['antivirus.products.all(p, p.running == "off")', 'false'], ['antivirus.products.exists_one(p, p.name == "ClamAV")', 'true'],
    ['size(antivirus.products) == 1 && antivirus.products[0].name == "ClamAV"', 'true'], ['network.interfaces.exists(i, i.addresses.exists(a, a.ip == "10.1.2.3"))', 'true'], ['"10.9.9.9" in network.dnsServers', 'false'], ['-scores.sources.edr.score < 0', 'true'], ['os.type == "linux" && security.linux.ufw == "off" // a remark', 'true'],
    ['vulnerabilities.found.exists(v, severityAtLeast(v.severity, "critical"))', 'false'], ['size(vulnerabilities.found.filter(v, v.id.startsWith("CVE-"))) == 1', 'true'],
  ])('%s is %s', (source, value) => { expect(found(source)).toMatchObject({ value }) })

  it.each([
    'scores.sources.other.score > 1', '!(scores.sources.other.score > 1)', '!("other" in scores.sources)', 'updates.installedAt > 1', '!(updates.installedAt > 1)', 'directory.joined[7].domain != "x"', 'security.windows.uac != "off"', '!(security.windows.uac == "on")',
    'scores.sources.constructor.score > 1', 'scores.sources["__proto__"].score > 1', 'scores.sources.edr.score / 0 > 1', 'antivirus.products.all(p, p.version != "1")', '!antivirus.products.exists(p, p.version == "1")', 'antivirus.products.exists_one(p, p.version == "1")', 'size(antivirus.products.filter(p, p.version == "1")) == 0', 'versionAtLeast(os.name, "1")',
  ])('%s is unknown, for a fact is not there', (source) => { expect(found(source)).toMatchObject({ value: 'unknown' }) })

  it('settles without what is unknown where it can, both ways round', () => {
    const absent = 'security.windows.uac == "on"'
    expect([`${absent} || os.type == "linux"`, `os.type == "linux" || ${absent}`, `${absent} && os.type == "macos"`, `os.type == "macos" && ${absent}`, `${absent} || os.type == "macos"`, `${absent} && os.type == "linux"`].map((source) => found(source).value)).toEqual(['true', 'true', 'false', 'false', 'unknown', 'unknown'])
  })
  it('takes a state that says "unknown", and a severity that nobody gave, for what they are', () => {
    const blind: Facts = { ...osOf('linux'), ...fact('security', { ...secured.linux.security.value, secureBoot: 'unknown' }), ...fact('vulnerabilities', { scannedAt: now, scanner: 'x', found: [{ id: 'CVE-1', name: 'x', severity: 'unrated', package: '' }] }) }
    for (const source of ['security.secureBoot == "on"', 'security.secureBoot != "off"', 'vulnerabilities.found.all(v, v.severity == "low")', '!vulnerabilities.found.exists(v, severityAtLeast(v.severity, "high"))']) expect(found(source, blind).value, source).toBe('unknown')
  })
  it('falls due: by within(), and when what others told expires', () => {
    expect(found('within(antivirus.products[0].signaturesAt, 7200)')).toMatchObject({ value: 'true', validUntil: now + hour })
    expect(found('within(antivirus.products[0].signaturesAt, 7200)', all, now + hour)).toMatchObject({ value: 'false', validUntil: null })
    expect(found('within(antivirus.products[0].signaturesAt, 7200)', all, now - 2 * hour)).toMatchObject({ value: 'unknown', validUntil: now - hour })
    expect(found('scores.sources.edr.score > 1')).toMatchObject({ value: 'true', validUntil: now + hour })
    for (const source of ['scores.sources.edr.score > 1', '!scores.sources.exists(name, scores.sources[name].score < 1)']) expect(found(source, all, now + hour), source).toMatchObject({ value: 'unknown' })
    const identity = fact('identity', { issuer: 'i', subject: 's', authenticatedAt: 1, expiresAt: now + 5 })
    expect([found('identity.subject != "x"', { ...all, ...identity }), found('identity.subject != "x"', { ...all, ...identity }, now + 5)]).toMatchObject([{ value: 'true', validUntil: now + 5, provenance: 'proved' }, { value: 'unknown' }])
  })
  it('falls due at an instant that the contract takes, whatever it calculates: gateways refuse what is none', () => {
    const dues = ['0.0005', '86400.0001', '1e15', '1e300', '8.64e12'].map((seconds) => found(`within(antivirus.products[0].signaturesAt, ${seconds})`, all, now - hour).validUntil)
    expect(dues).toEqual([now - hour + 1, now - hour + 86_400_001, null, null, null])
    for (const source of ['within(antivirus.products[0].signaturesAt + 0.5, 60)', 'within(antivirus.products[0].signaturesAt * 2, 60)', 'within(antivirus.products[0].signaturesAt * 1e9, 60)', 'within(-5, 0.001) || os.type == "linux"']) {
      expect(instant.nullable().safeParse(found(source).validUntil).success, source).toBe(true)
    }
  })
  it('shows what it saw, and reads just the sections that it names', () => {
    expect(found('security.secureBoot == "on" && versionAtLeast(os.version, "13")')).toMatchObject({ value: 'false', seen: 'security.secureBoot is "on", os.version is "12.8"' })
    const compiled = compileExpression('os.type == "linux" || network.interfaces.exists(i, i.name == "x") && size(directory.groups) > 1')
    expect(compiled.ok && [...compiled.expression.sections].sort()).toEqual(['directory', 'network', 'os'])
  })
  it('reads every section of the contract but packages and answers', () => {
    expect(readable.map((section) => sectionShape(section)?.kind)).toEqual(readable.map(() => 'object'))
    expect(readable).not.toContain('software')
  })
})

describe('what is refused', () => {
  it.each<[string, string]>([
    ['os.versoin == "1"', 'there is no "versoin" in os (there are type, name, version, kernel, architecture) at character 1'], ['hardware.cores > 2 && secuirty.x == 1', 'there are no facts named "secuirty"'], ['os.version > 12', '">" compares numbers, not a text with a number'], ['os.version == 12', 'a text is compared with a number at character 1'],
    ['security.secureBoot == "onn"', '"onn" is asked of what is one of on, off'], ['security.secureBoot == "unknown"', '"unknown" is asked of what is one of on, off'], ['security.secureBoot in ["on", "unrated"]', '"unrated" is asked of'], ['hardware.cores', 'gives a number, not true or false'], ['1 == 1', 'reads no fact'], ['os.type == "linux" &&', 'Unexpected token: EOF at character 22'],
    ['has(os.type)', 'has() is not offered, for what is absent is unknown'], ['os.name.matches(os.version)', 'the pattern must be written out'], ['os.name.matches("(a{1000}){1000}")', 'no pattern of RE2'], ['os.name.matches("(")', 'missing closing'], ['os.name + "x" == "y"', 'is a text, not a number, at character 1'], ['software.packages.exists(p, p.name == "x")', 'there are no facts named "software"'],
    ['os.name == null', 'only texts, numbers, true and false'], ['cel.bind(x, 1, x) == 1', 'there is no function "bind"'], ['os.name.toString() == "x"', 'there is no function "toString"'], ['__proto__.x == 1', 'Reserved identifier'], ['constructor.x == 1', 'there are no facts named'], ['antivirus.products.exists(os, os.name == "x")', '"os" is named twice at character 27'], ['antivirus.products.map(p, p.name) == 1', 'there is no function "map"'],
    ['os.name == "\u202e"', 'a character that can not be seen, at character 13'], ['os.name == "\ud800"', 'a character that can not be seen, at character 13'], ['os.name == "\u{1f600}\u200f"', 'at character 15'],
    ['within(os.name, 5)', 'it is written within(instant, seconds)'], ['hardware.cores > 99999999999999999999', 'at character'], ['severityAtLeast(os.name, os.name)', 'the severity must be written out'],
  ])('%s: %s', (source, detail) => { expect(refusal(source)).toContain(detail); expect(refusal(source)).toMatch(/at character \d+$/) })
  it('names the place in the rule set', () => {
    const input = { ...ruleSet(1, { conditions: [asked('custom', { expression: 'os.type == "linux"' }), asked('custom', { expression: 'os.typ == "linux"' })] }) }
    expect(checkRuleSet(input)).toEqual([{ pointer: '/rules/linux/conditions/1/expression', detail: expect.stringMatching(/^there is no "typ" in os .* at character 1$/) as unknown }])
  })
  it('is any bomb: of length, of depth, of size, of lists in lists', () => {
    for (const bomb of ['('.repeat(500) + 'os.type == "linux"' + ')'.repeat(500), `${'!'.repeat(3_000)}(os.type == "linux")`, `os.type in [${'"x",'.repeat(1_000)}"x"]`, Array.from({ length: 200 }, () => 'os.type == "linux"').join(' && '), 'x'.repeat(5_000), `os.type == "${'x'.repeat(5_000)}"`,
      'vulnerabilities.found.exists(a, vulnerabilities.found.exists(b, vulnerabilities.found.exists(c, vulnerabilities.found.exists(d, a.id == d.id))))', `os.type == "linux" ${'? true '.repeat(200)}${': false'.repeat(200)}`]) expect(refusal(bomb), bomb.slice(0, 40)).not.toBe('')
  })
  it('is any text that is no expression, without a failure of ours', () => {
    fc.assert(fc.property(fc.string({ maxLength: 60 }), fc.constantFrom('', 'os.type == ', 'antivirus.products.exists(p, ', 'scores.sources["'), (text, before) => { expect(typeof refusal(before + text)).toBe('string') }), { numRuns: 500 })
  })
})

describe('what an expression may cost', () => {
  const many: Facts = { ...osOf('linux'), ...fact('vulnerabilities', { scannedAt: now, scanner: 'x', found: Array.from({ length: 5_000 }, (_, n) => ({ id: `CVE-${n}`, name: 'a'.repeat(200), severity: 'low' as const, package: 'p' })) }) }
  it.each(['vulnerabilities.found.exists(a, vulnerabilities.found.exists(b, vulnerabilities.found.exists(c, a.id == "x" && b.id == c.id)))', 'vulnerabilities.found.all(v, !v.name.matches("(a+)+b(a+)+c"))', '!vulnerabilities.found.exists(a, vulnerabilities.found.exists(b, a.name == b.id))'])('is bounded: %s is unknown', (source) => {
    const before = process.cpuUsage()
    expect(found(source, many)).toMatchObject({ value: 'unknown', seen: expect.stringContaining('more than 100000 steps') as unknown })
    expect(process.cpuUsage(before).user / 1_000).toBeLessThan(500)
  })
  it('is enough to look through one long list', () => {
    expect(found('vulnerabilities.found.exists(v, v.id == "CVE-4999" && severityAtLeast(v.severity, "low"))', many).value).toBe('true')
  })
})
