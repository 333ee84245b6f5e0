// Commands about rule sets, tried in the order and the fabric of main.test.ts, which notes what was tried.
import { beforeAll, describe, expect, it } from 'vitest'
import { until } from '../../start/steps.ts'
import type { Fabric } from './fabric-under-test.ts'

/** What stands when they have been tried. */
export const rules = `
name: modern system
tag: modern
message: Update your system.
rules:
  linux:
    conditions:
      - type: os-version
        comparator: '>='
        version: '12'
---
- name: hosts
  tag: has-hosts
  rules: { linux: { conditions: [{ type: file, path: /etc/hosts }], logic: '1' } }
`

/** A fabric that has no rule sets. */
export function ruleSetsTried(world: () => { fabric: Fabric }): void {
  describe('rule sets', () => {
    let fabric: Fabric
    beforeAll(() => {
      ({ fabric } = world())
    })

    it('are applied from YAML; applied again they change nothing', async () => {
      const file = await fabric.file('rules.yaml', rules)
      expect((await fabric.cli(['rule-sets', 'apply', file, '--dry-run'])).out).toBe('would be created: modern system\nwould be created: hosts\n')
      expect(await fabric.json('rule-sets', 'list')).toEqual([])
      expect((await fabric.cli(['rule-sets', 'apply', file])).out).toBe('created: modern system\ncreated: hosts\n')
      const before = await fabric.json('rule-sets', 'list')
      expect((await fabric.cli(['rule-sets', 'apply', file])).out).toBe('unchanged: modern system\nunchanged: hosts\n')
      expect(await fabric.json('rule-sets', 'list')).toEqual(before)
    })
    it('are replaced where they differ, and what differs is said', async () => {
      const file = await fabric.file('rules.yaml', rules.replace("'12'", "'11'").replace('/etc/hosts', '/etc/passwd'))
      const dry = await fabric.cli(['rule-sets', 'apply', file, '--dry-run'])
      expect(dry.out).toBe('would be replaced: modern system\n  /rules/linux/conditions/0/version: "12" → "11"\nwould be replaced: hosts\n  /rules/linux/conditions/0/path: "/etc/hosts" → "/etc/passwd"\n')
      expect((await fabric.json<{ action: string }>('rule-sets', 'apply', file)).map(({ action }) => action)).toEqual(['replaced', 'replaced'])
      expect((await fabric.cli(['rule-sets', 'apply', '-'], { stdin: rules })).out).toContain('replaced: modern system')
    })
    it('that read tags are imported in whatever order they stand in the file', async () => {
      const reader = (name: string, tag: string) => ({ name, tag: name, rules: { linux: { conditions: [{ type: 'tag-present', tag }] } } })
      const file = await fabric.file('readers.json', JSON.stringify([reader('third', 'second'), reader('second', 'first'), { name: 'first', tag: 'first', rules: { linux: { conditions: [{ type: 'ems-management' }] } } }]))
      expect((await fabric.cli(['rule-sets', 'import', file, '--yes'])).out).toMatch(/created: first\ncreated: second\ncreated: third\n$/)
      for (const name of ['third', 'second', 'first']) expect((await fabric.cli(['rule-sets', 'delete', name, '--yes'])).code).toBe(0)
    })
    it('are shown and exported in the form that apply takes', async () => {
      const [shown, exported] = [await fabric.cli(['rule-sets', 'show', 'hosts']), await fabric.cli(['rule-sets', 'export'])]
      for (const { out } of [shown, exported]) expect((await fabric.cli(['rule-sets', 'apply', '-'], { stdin: out })).out).not.toMatch(/created|replaced/)
      const asJson = await fabric.cli(['rule-sets', 'export', '--json'])
      expect((await fabric.cli(['rule-sets', 'apply', '-'], { stdin: asJson.out })).out.trim().split('\n').sort()).toEqual(['unchanged: hosts', 'unchanged: modern system'])
      expect((await fabric.cli(['rule-sets', 'list'])).out).toMatch(/^ID +TAG +ENABLED +CONDITIONS +PACK +NAME\n/)
    })
    it('are exported to a file that is not overwritten, and imported after a preview and a yes', async () => {
      expect((await fabric.cli(['rule-sets', 'export', 'out.yaml'])).err).toContain('written to out.yaml')
      expect(await fabric.cli(['rule-sets', 'export', 'out.yaml'])).toMatchObject({ code: 1, err: expect.stringContaining('out.yaml is there already: --force overwrites it.') as string })
      await fabric.cli(['rule-sets', 'export', 'out.yaml', '--yaml', '--force'])
      await fabric.cli(['rule-sets', 'export', 'out.json', '--json'])
      for (const file of ['out.yaml', 'out.json']) expect(await fabric.cli(['rule-sets', 'import', file])).toMatchObject({ code: 0, err: 'Everything is so already.\n' })
      const changed = await fabric.file('changed.yaml', rules.replace('Update your system.', 'Update it.'))
      expect(await fabric.cli(['rule-sets', 'import', changed], { terminal: true, stdin: 'n\n' })).toMatchObject({ code: 1, out: 'would be replaced: modern system\n  /message: "Update your system." → "Update it."\nunchanged: hosts\n', err: expect.stringContaining('Take this change? [y/N]') as string })
      expect((await fabric.cli(['rule-sets', 'import', changed])).code).toBe(2)
      expect((await fabric.cli(['rule-sets', 'import', changed, '--yes'])).out).toContain('\nreplaced: modern system\n')
      expect((await fabric.cli(['rule-sets', 'apply', '-'], { stdin: rules })).code).toBe(0)
      expect((await fabric.cli(['rule-sets', 'export', '--yaml', '--json'])).code).toBe(2)
    })
    it('with a mistake are not taken, and nothing else of the file is', async () => {
      const { code, out, err } = await fabric.cli(['rule-sets', 'apply', '-'], { stdin: '- {name: good, tag: good, rules: {linux: {conditions: [{type: ems-management}]}}}\n- name: bad\n  tag: bad\n  rules:\n    linux:\n      conditions:\n        - type: telepathy\n      logic: 1 and 2\n' })
      expect([code, out]).toEqual([1, ''])
      expect(err).toContain('standard input has mistakes; nothing of it was taken.\n')
      expect(err).toContain('  standard input:7:17 /rules/linux/conditions/0/type: there is no condition type "telepathy"; there are ad-group, ')
      expect(err).toContain('\n  standard input:8:14 /rules/linux/logic: there is no condition 2')
      expect((await fabric.cli(['rule-sets', 'show', 'good'])).code).toBe(1)
    })
    it('are worked out for every endpoint, which is shown', async () => {
      await until('the end of it', async () => (await fabric.json<{ running: boolean }>('re-evaluation', 'show'))[0]?.running === false || null)
      expect((await fabric.cli(['re-evaluation', 'show'])).out).toMatch(/^ {2}endpoints +none is behind$/m)
    })
    it('bring their tags', async () => {
      expect((await fabric.cli(['tags', 'list'])).out).toMatch(/zero-trust +modern$/m)
      expect((await fabric.json<{ name: string }>('tags', 'list')).map(({ name }) => name).sort()).toEqual(['has-hosts', 'modern'])
    })
  })
}
