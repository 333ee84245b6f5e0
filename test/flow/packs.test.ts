// The packs that come with Sallyport: each is taken as it is, and gives its tags to the laptops it means and to no other.
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { checkBy, readDefinitions } from '../../cli/definitions.ts'
import { conditionKey } from '../../domain/tagging/condition-key.ts'
import { compileRules } from '../../domain/tagging/compile.ts'
import { evaluateEndpoint } from '../../domain/tagging/evaluate.ts'
import { checkPack } from '../../domain/tagging/pack.ts'
import type { Fact, Facts, SectionName, Sections, State, VerdictValue } from '../../protocol/facts.ts'
import { packInput } from '../../protocol/packs.ts'
import { startFabric, type Fabric } from '../cli/fabric-under-test.ts'

const folder = fileURLToPath(new URL('../../packs/', import.meta.url))
const files = readdirSync(folder).filter((name) => name.endsWith('.yaml'))
const now = 1_790_000_000_000
const DAY = 86_400_000
const uuid = (n: number) => `00000000-0000-4000-8000-${n.toString(16).padStart(12, '0')}`
const packIn = (file: string) => readDefinitions(readFileSync(folder + file, 'utf8'), file, checkBy(packInput, checkPack))[0]?.body

/** States of a pack's tags, by name, for one laptop. */
function statesOf(file: string, facts: Facts): Record<string, string> {
  const pack = packIn(file)
  if (pack === undefined) throw new Error(`${file} defines nothing`)
  const uidOf = (name: string) => uuid(pack.tags.findIndex((tag) => tag.name === name))
  const rules = compileRules(pack.ruleSets.map((each, at) => ({ ...each, id: uuid(100 + at), tagUid: uidOf(each.tag) })), 1)
  const { tags } = evaluateEndpoint({ rules, facts, changed: 'all', previous: {}, now })
  return Object.fromEntries(pack.tags.map(({ name }) => [name, tags.find(({ tagUid }) => tagUid === uidOf(name))?.state ?? 'absent']))
}
const fact = <S extends SectionName>(value: Sections[S]): Fact<S> => ({ value, at: now - 1000, provenance: 'claimed' })
const os = (name: string, version: string) => fact<'os'>({ type: 'linux', name, version, kernel: '6.1', architecture: 'x64' })
const none = { state: 'unknown' as const }
const security = (linux: NonNullable<Sections['security']['linux']>, automaticUpdates: State = 'on') => fact<'security'>({
  firewall: { ...none, product: '' }, diskEncryption: { ...none, method: '' }, mandatoryAccessControl: { ...none, product: '' }, automaticUpdates: { state: automaticUpdates, product: '' }, secureBoot: 'unknown', linux,
})
const good = { rootEncryption: 'on', nftables: 'on', unattendedUpgrades: 'on', apparmor: 'enforcing' } as const
const scan = (...ids: string[]) => fact<'vulnerabilities'>({ scannedAt: now - 1000, scanner: 'ems', found: ids.map((id) => ({ id, name: id, severity: 'critical' as const, package: 'xz-utils' })) })
const updated = (days: number) => fact<'updates'>({ installedAt: now - days * DAY })
const answers = (file: string, valueOf: (path: string) => VerdictValue) => fact<'verdicts'>({
  answers: Object.fromEntries((packIn(file)?.ruleSets ?? []).flatMap(({ rules }) => rules.linux?.conditions ?? []).filter(({ type }) => type === 'file')
    .map((condition) => [conditionKey(condition), { value: valueOf(String(condition.path)), seen: 's', at: now - 1000 }])),
})

describe('the packs that come along', () => {
  let fabric: Fabric
  beforeAll(async () => { fabric = await startFabric() })
  afterAll(() => fabric.close())

  it.each(files)('%s is taken by an EMS, and comes back as it was', async (file) => {
    const pack = packIn(file)
    const [taken] = await fabric.json<{ name: string; action: string }>('packs', 'import', folder + file, '--yes')
    expect(taken).toMatchObject({ name: pack?.name, action: 'imported' })
    expect((await fabric.json<{ action: string }>('packs', 'import', folder + file, '--yes'))[0]?.action).toBe('unchanged')
    expect(readFileSync(`${folder}README.md`, 'utf8')).toContain(`\`${file}\` | ${(pack?.tags ?? []).map(({ name }) => `\`${name}\``).join(', ')} |`)
    expect((await fabric.json<{ ruleSets: { name: string }[] }>('packs', 'show', pack?.name ?? ''))[0]?.ruleSets.map(({ name }) => name).sort()).toEqual(pack?.ruleSets.map(({ name }) => name).sort())
  })

  it('the baseline is what a cared-for laptop has, each tag for its own reason', () => {
    const states = (facts: Facts) => Object.values(statesOf('linux-laptop-baseline.yaml', facts))
    const laptop = { os: os('Debian GNU/Linux', '12.8'), security: security(good), updates: updated(3), vulnerabilities: scan() }
    expect(states(laptop)).toEqual(['present', 'present', 'present'])
    for (const [name, version, state] of [['Ubuntu', '24.04', 'present'], ['Ubuntu', '20.04', 'absent'], ['Fedora Linux', '43', 'present'], ['Debian GNU/Linux', '11', 'absent'], ['Arch Linux', '', 'absent']] as const) {
      expect([name, states({ ...laptop, os: os(name, version) })[0]]).toEqual([name, state])
    }
    expect(states({ ...laptop, security: security({ ...good, rootEncryption: 'off', homeEncryption: 'on' }) })[0]).toBe('present')
    expect(states({ ...laptop, security: security({ ...good, rootEncryption: 'off', homeEncryption: 'off' }) })[0]).toBe('absent')
    expect(states({ ...laptop, updates: updated(40) })).toEqual(['present', 'absent', 'present'])
    expect(states({ ...laptop, vulnerabilities: scan('CVE-2026-1') })[1]).toBe('absent')
    expect(states({ ...laptop, security: security({ ...good, apparmor: 'complaining', selinux: 'disabled' }) })[2]).toBe('absent')
    // What nobody has reported is unknown, and opens nothing.
    expect(states({ os: laptop.os })).toEqual(['unknown', 'unknown', 'unknown'])
  })

  it('the outbreak is found by the file alone, and by the advisory alone', () => {
    const file = 'outbreak-xz-backdoor.yaml'
    const states = (facts: Facts) => Object.values(statesOf(file, { os: os('Debian GNU/Linux', '12.8'), ...facts }))
    const clean = answers(file, () => 'false')
    expect(states({ verdicts: clean, vulnerabilities: scan() })).toEqual(['absent', 'absent'])
    expect(states({ verdicts: answers(file, (path) => (path.endsWith('5.6.1') && path.includes('lib64') ? 'true' : 'false')), vulnerabilities: scan() })).toEqual(['present', 'absent'])
    expect(states({ verdicts: clean, vulnerabilities: scan('CVE-2024-3094') })).toEqual(['absent', 'present'])
    expect(states({ verdicts: answers(file, () => 'unknown') })).toEqual(['unknown', 'unknown'])
  })
})
