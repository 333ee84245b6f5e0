// Facts and rule sets that the tests of tagging speak of.
import { compileRules } from '../../../domain/tagging/compile.ts'
import { conditionKey } from '../../../domain/tagging/condition-key.ts'
import { evaluateEndpoint, type Evaluation } from '../../../domain/tagging/evaluate.ts'
import type { Fact, Facts, SectionName, Sections, Severity, VerdictValue } from '../../../protocol/facts.ts'
import type { Condition, OsRules, RuleSet } from '../../../protocol/rules.ts'

export const now = 1_790_000_000_000
export const uuid = (n: number) => `00000000-0000-4000-8000-${n.toString(16).padStart(12, '0')}`
export const ruleSet = (n: number, linux: OsRules, more: Partial<RuleSet> = {}): RuleSet =>
  ({ id: uuid(n), tagUid: uuid(1000 + n), name: `rule ${n}`, enabled: true, tag: `tag ${n}`, message: '', comment: '', mode: 'enforce', transitionSeconds: 60, rules: { linux }, ...more })

const fact = <S extends SectionName>(value: Sections[S], at = now - 1000): Fact<S> => ({ value, at, provenance: 'claimed' })
export const os = (version = '12.8', type: 'linux' | 'windows' = 'linux') => fact<'os'>({ type, name: 'Debian GNU/Linux', version, kernel: '6.1', architecture: 'x64' })
export const agent = () => fact<'agent'>({ version: '1.0.0', protocol: '7.0.0', profileVersion: 0, rulesVersion: 0 })
export const network = (...ips: string[]) => fact<'network'>({ interfaces: [{ name: 'eth0', addresses: ips.map((ip) => ({ ip, prefix: 24 })) }], defaultGateways: [], dnsServers: [] })
export const scan = (severities: readonly Severity[], scannedAt = now - 1000, at = scannedAt) =>
  fact<'vulnerabilities'>({ scannedAt, scanner: 'grype', found: severities.map((severity, n) => ({ id: `CVE-${n}`, name: 'x', severity, package: 'p' })) }, at)
export const answers = (given: readonly (readonly [Condition, VerdictValue])[]) =>
  fact<'verdicts'>({ answers: Object.fromEntries(given.map(([condition, value]) => [conditionKey(condition), { value, seen: 'as the agent saw it', at: now }])) })

export const marker: Condition = { type: 'file', negate: false, path: '/etc/marker' }
export const sshd: Condition = { type: 'running-process', negate: false, name: 'sshd' }
export const atLeast = (version: string): Condition => ({ type: 'os-version', negate: false, comparator: '>=', version })
export const office: Condition = { type: 'ip-range', negate: false, ranges: ['10.0.0.0/8', 'fd00::/8'] }
export const vulnerable = (severity: Severity, scannedWithinSeconds?: number): Condition => ({ type: 'vulnerable-devices', negate: false, severity, ...(scannedWithinSeconds === undefined ? {} : { scannedWithinSeconds }) })
export const managed: Condition = { type: 'ems-management', negate: false }
export const negated = (condition: Condition): Condition => ({ ...condition, negate: true })

export const evaluate = (rules: readonly RuleSet[], facts: Facts, at = now): Evaluation => evaluateEndpoint({ rules: compileRules(rules, 1), facts, changed: 'all', previous: {}, now: at })
/** The state of the tag that one rule set of these conditions gives. */
export const stateOf = (conditions: Condition[], facts: Facts, at = now): 'present' | 'unknown' | 'absent' => evaluate([ruleSet(1, { conditions })], facts, at).tags[0]?.state ?? 'absent'
