// docs/rules.md is what rules are written from: it names every type with every member, and its examples are taken.
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { functions } from '../../../domain/tagging/expression/functions.ts'
import { conditionTypes, membersOf, typeNamed } from '../../../domain/tagging/registry.ts'
import { checkRuleSet } from '../../../domain/tagging/rule-set.ts'
import { ruleSetInput } from '../../../protocol/rules.ts'
import { checks } from './examples.ts'

const text = readFileSync(new URL('../../../docs/rules.md', import.meta.url), 'utf8')
const rows = new Map([...text.matchAll(/^\| `([a-z-]+)` \|(.*)$/gm)].map(([, type = '', rest = '']) => [type, rest]))

describe('docs/rules.md', () => {
  it('names the types that there are', () => { expect([...rows.keys()].sort()).toEqual(conditionTypes.map(({ type }) => type).sort()) })
  it.each([...rows])('names each member of %s', (type, row) => {
    const known = typeNamed(type)
    for (const member of known === undefined ? [] : membersOf(known)) expect(row).toContain(`\`${member}`)
  })
  it.each(['linux', 'windows', 'macos'] as const)('names each check of %s', (os) => { for (const check of checks[os]) expect(rows.get(`${os}-security`)).toContain(`\`${check}\``) })
  it('names each function of expressions', () => { for (const name of Object.keys(functions)) expect(text).toMatch(new RegExp(`\`${name}[(\`]`)) })
  it('has examples that are taken', () => {
    const examples = [...text.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, yaml = '']) => ruleSetInput.parse(parse(yaml)))
    expect(examples.map((example) => checkRuleSet(example))).toEqual([[], []])
  })
})
