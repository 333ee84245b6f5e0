// The rule sets of the tagging benchmark: as many as asked, of the kinds that organisations write, most for one system, some for all.
import { conditionKey } from '../domain/tagging/condition-key.ts'
import type { OsType } from '../protocol/facts.ts'
import { ruleSetInput, type Condition, type RuleSet, type RuleSetInput } from '../protocol/rules.ts'

type Conditions = (n: number) => object[]
const process = (n: number) => ({ type: 'running-process', name: `guard-${n % 20}` })
/** Each reads one or two sections; about a tenth of them holds for a laptop of the fleet. */
const kinds: readonly { readonly [S in OsType]?: Conditions }[] = [
  { windows: (n) => [{ type: 'os-version', comparator: '>=', version: `10.0.${19_000 + 100 * (n % 90)}` }], linux: (n) => [{ type: 'os-version', comparator: '>=', version: `${10 + n % 5}` }], macos: (n) => [{ type: 'os-version', comparator: '>=', version: `${12 + n % 5}` }] },
  { windows: (n) => [{ type: 'windows-security', check: n % 20 === 1 ? 'bitlocker-system' : 'firewall' }, { type: 'ad-group', groups: [`group ${n % 40}`] }] },
  { windows: (n) => [{ type: 'antivirus', product: n % 60 === 2 ? 'Defender' : `Product ${n}`, running: true }], macos: (n) => [{ type: 'antivirus', product: `Product ${n}`, running: true }] },
  { windows: (n) => [{ type: 'agent-version', comparator: '>=', version: `0.${n % 37}.0` }], linux: (n) => [{ type: 'agent-version', comparator: '>=', version: `0.${n % 37}.0` }], macos: (n) => [{ type: 'agent-version', comparator: '>=', version: `0.${n % 37}.0` }] },
  { windows: (n) => [{ type: 'ad-group', groups: [`group ${n % 40}`, `group ${100 + n}`] }] },
  { windows: (n) => [{ type: 'logged-in-domain', domains: [n % 40 === 5 ? 'corp.example.com' : `d${n}.example.com`] }] },
  { windows: (n) => [{ type: 'ip-range', ranges: [n % 60 === 6 ? '10.0.0.0/8' : `172.${16 + n % 16}.0.0/16`] }], linux: (n) => [{ type: 'ip-range', ranges: [`172.${16 + n % 16}.0.0/16`] }] },
  { windows: (n) => [process(n), { type: 'os-version', comparator: '>=', version: '10.0.19000' }] },
  { linux: () => [{ type: 'linux-security', check: 'firewall' }], macos: () => [{ type: 'macos-security', check: 'filevault' }] },
  { windows: (n) => [{ type: 'os-version', comparator: '>=', version: '10.0.22000' }, { type: 'antivirus', product: 'Defender', running: true }, process(n)], linux: (n) => [process(n)] },
]

/** The agent-side conditions, each under the key by which an agent answers it. */
export const answered: readonly { readonly key: string; readonly condition: Condition }[] = Array.from({ length: 20 }, (_, n) => process(n)).map((condition) => ({ key: conditionKey({ ...condition, negate: false }), condition: { ...condition, negate: false } }))

/** The one that is edited: it reads two sections. @param build the Windows build from which it holds */
export const edited = (build: string): RuleSetInput => ruleSetInput.parse({
  name: 'well kept', tag: 'well kept',
  rules: { windows: { conditions: [{ type: 'os-version', comparator: '>=', version: build }, { type: 'windows-security', check: 'firewall' }] } },
})

export const inputs = (count: number): RuleSetInput[] => Array.from({ length: count }, (_, n) => {
  const rules = Object.fromEntries(Object.entries(kinds[n % kinds.length] ?? {}).map(([os, conditions]) => [os, { conditions: conditions(n) }]))
  return ruleSetInput.parse({ name: `rule set ${n}`, tag: `tag ${n}`, rules })
})

/** As stored, for what is worked out without an EMS. */
export const stored = (of: readonly RuleSetInput[]): RuleSet[] => of.map((input, n) => {
  const id = (kind: number) => `00000000-0000-4000-8000-${(kind * 1_000_000 + n).toString(16).padStart(12, '0')}`
  return { ...input, id: id(1), tagUid: id(2) }
})
