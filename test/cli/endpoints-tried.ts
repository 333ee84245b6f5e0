// Commands about endpoints, tried in the order and the fabric of main.test.ts, which notes what was tried.
import { beforeAll, describe, expect, it } from 'vitest'
import { until } from '../../start/steps.ts'
import type { Fabric, Laptop } from './fabric-under-test.ts'
import { rules } from './rule-sets-tried.ts'

/** A fabric with those rule sets, and a laptop that is enrolled. */
export function endpointsTried(world: () => { fabric: Fabric; laptop: Laptop }): void {
  describe('endpoints', () => {
    let fabric: Fabric
    let laptop: Laptop
    beforeAll(() => {
      ({ fabric, laptop } = world())
    })

    it('are listed with the names of their tags, and shown whole', async () => {
      await laptop.report('11.2')
      const { out } = await fabric.cli(['endpoints', 'list'])
      expect(out).toMatch(new RegExp(`^${laptop.uid} +offline +just now +linux +laptop +sales +has-hosts\\?$`, 'm'))
      expect(await fabric.json('endpoints', 'list')).toMatchObject([{ uid: laptop.uid, hostName: 'laptop' }])
      const shown = await fabric.cli(['endpoints', 'show', laptop.uid])
      expect(shown.out).toMatch(/^ {2}tags +has-hosts\?$/m)
      expect(shown.out).toMatch(/^os, claimed, just now\n( {2}.*\n)*? {2}version: "11\.2"\n/m)
      expect(await fabric.json('endpoints', 'show', laptop.uid)).toMatchObject([{ facts: { os: { value: { version: '11.2' } } } }])
    })
    it('are said to be corporate or personal, by UID or by a file of them', async () => {
      expect(await fabric.json('endpoints', 'show', laptop.uid)).toMatchObject([{ ownership: 'corporate' }])
      expect((await fabric.cli(['endpoints', 'set-ownership', 'personal', laptop.uid])).err).toBe(`${laptop.uid} is of personal ownership.\n`)
      expect((await fabric.cli(['endpoints', 'show', laptop.uid])).out).toMatch(/^ {2}ownership +personal$/m)
      expect(await fabric.json('endpoints', 'set-ownership', 'unknown', '--from', await fabric.file('uids.txt', `# mine\n${laptop.uid}\n`))).toEqual([{ ok: true, endpoints: 1 }])
      expect((await fabric.cli(['endpoints', 'show', laptop.uid])).out).toMatch(/^ {2}ownership +not said$/m)
      expect(await fabric.cli(['endpoints', 'set-ownership', 'personal', 'f'.repeat(32)])).toMatchObject({ code: 1, err: expect.stringContaining(`${'f'.repeat(32)}: There is no such endpoint.`) as string })
      for (const wrong of [['mine', laptop.uid], ['personal'], ['personal', laptop.uid, '--from', 'uids.txt']]) expect((await fabric.cli(['endpoints', 'set-ownership', ...wrong])).code, wrong.join(' ')).toBe(2)
    })
    it('whose tags change again and again are said to flap', async () => {
      const set = async (changes: object) => await (await fabric.ems.miniflare.getD1Database('DB')).prepare('UPDATE endpoints SET tag_changes = ?').bind(JSON.stringify(changes)).run()
      await set({ at: [Date.now()], flappingSince: Date.now() })
      expect((await fabric.cli(['endpoints', 'list'])).out).toMatch(new RegExp(`^${laptop.uid} +offline, flapping `, 'm'))
      expect((await fabric.cli(['endpoints', 'show', laptop.uid])).out).toMatch(/^ {2}flapping +since \S+Z \(just now\): its tags changed more than 6 times in 10 minutes; ends after 10 quiet ones$/m)
      await set({ at: [], flappingSince: null })
    })
    it('are told of by other systems, for so long, until that is forgotten', async () => {
      expect(await fabric.json('signals', 'score', laptop.uid, 'edr', '71.5')).toEqual([{ at: expect.any(Number) as number, expiresAt: null }])
      expect((await fabric.cli(['signals', 'score', laptop.uid, 'edr', '20', '--for', '24h'])).err).toMatch(/^edr scores it 20 until \S+ \(in (24 h|1 d)\)\.\n$/)
      expect((await fabric.cli(['signals', 'sandbox', laptop.uid, 'box', '--found', 'EICAR:high,odd thing:low'])).err).toBe('box says 2 detected.\n')
      expect((await fabric.cli(['signals', 'threats', laptop.uid, 'gateway-1', '--none'])).err).toBe('gateway-1 says that there is nothing.\n')
      expect((await fabric.cli(['endpoints', 'show', laptop.uid])).out).toMatch(/^scores, proved, just now\n/m)
      expect((await fabric.cli(['signals', 'clear', laptop.uid, 'scores', 'edr'])).err).toContain('find it unknown')
      expect(await fabric.json('endpoints', 'show', laptop.uid)).toMatchObject([{ facts: { sandbox: { value: { sources: { box: { detections: [{ name: 'EICAR', severity: 'high' }, { name: 'odd thing', severity: 'low' }] } } } } } }])
      for (const wrong of [['sandbox', laptop.uid, 'box'], ['sandbox', laptop.uid, 'box', '--none', '--found', 'x:low'], ['threats', laptop.uid, 'gw', '--found', 'x'], ['score', laptop.uid, 'EDR', '1'], ['score', laptop.uid, 'edr', 'high'], ['score', laptop.uid, 'edr', '1', '--for', '1h', '--until', '2030-01-01']]) expect((await fabric.cli(['signals', ...wrong])).code, wrong.join(' ')).toBe(2)
    })
    it('are asked to check when their channel is open; else that is said', async () => {
      const away = await fabric.cli(['endpoints', 'check', laptop.uid, '--json'])
      expect(away).toMatchObject({ code: 1, out: '{"told":false}\n', err: 'The agent has no open channel, so nobody was asked. It reports by itself when it is back.\n' })
      const { asked } = await laptop.openChannel()
      expect(await fabric.cli(['endpoints', 'check', laptop.uid])).toMatchObject({ code: 0, out: '' })
      await asked
    })
    it('are counted by a rule set, and told beforehand what another would change', async () => {
      expect((await fabric.cli(['rule-sets', 'show', 'hosts'])).out).toMatch(/^# [0-9a-f-]{36}\n# Gives its tag to 0 endpoints; unknown for 1; 1 waits for an answer of its agent\.\nname: hosts\n/)
      expect(await fabric.json('rule-sets', 'show', 'hosts')).toMatchObject([{ standing: { holds: 0, unknown: 1, owing: 1, standing: 0 } }])
      expect((await fabric.cli(['rule-sets', 'who', 'hosts'])).out).toMatch(new RegExp(`^UID +HOLDS +AGENT +HOST\\n${laptop.uid} +unknown +owes an answer +laptop\\n$`))
      const easier = await fabric.file('easier.yaml', rules.replace("'12'", "'11'"))
      const { out } = await fabric.cli(['rule-sets', 'try', easier])
      expect(out).toMatch(new RegExp(`^UID +CHANGE +TAG +HOST\\n${laptop.uid} +gains +modern: absent → present +laptop\\nmodern system \\(an edit\\): 1 endpoint\\n  1 would gain the tag\\n  0 would lose the tag\\n`))
      expect(out).toMatch(new RegExp(`${laptop.uid} +owes +has-hosts: unknown → unknown`))
      expect(await fabric.json('rule-sets', 'try', easier)).toMatchObject([{ ruleSet: 'modern system', change: 'gains' }, { ruleSet: 'modern system', counts: { examined: 1, gains: 1, loses: 0 } }, { ruleSet: 'hosts', change: 'owes' }, { counts: { owes: 1 } }])
      // Nothing of it was saved.
      expect((await fabric.cli(['endpoints', 'list'])).out).not.toContain('modern')
      const reported = rules.replace('name: modern system', 'name: reported').replace('tag: modern', 'tag: reported\nmode: shadow').replace("'12'", "'11'")
      await fabric.cli(['rule-sets', 'apply', '-'], { stdin: reported })
      const holds = await until('the report', async () => (await fabric.json<{ value: string }>('rule-sets', 'who', 'reported'))[0] ?? null)
      expect([holds, (await fabric.cli(['endpoints', 'list'])).out.includes('reported')]).toMatchObject([{ uid: laptop.uid, value: 'true', owes: false }, false])
      expect((await fabric.cli(['rule-sets', 'show', 'reported'])).out).toContain('# Report-only: would give its tag to 1 endpoint;')
      await fabric.cli(['rule-sets', 'delete', 'reported', '--yes'])
    })
    it('are explained tag by tag: wanted, seen, age, provenance, mend', async () => {
      const { out } = await fabric.cli(['explain', laptop.uid, 'Modern'])
      expect(out).toContain('Tag "modern" is absent\n  rule set "modern system" is false: Update your system.\n')
      expect(out).toMatch(/✗ 1 os-version\n +wanted +the system version is at least 12\n +seen +Debian 11\.2 \(os: \w+, (just now|\d+ min ago)\)\n +mend +Update the operating system to version 12 or later\.\n/)
      const [byUid] = await fabric.json<{ tagUid: string }>('explain', laptop.uid, 'modern')
      expect((await fabric.json('explain', laptop.uid, byUid?.tagUid ?? ''))[0]).toMatchObject({ tag: 'modern', state: 'absent' })
      expect(await fabric.cli(['explain', laptop.uid, 'moder'])).toMatchObject({ code: 1, err: 'There is no tag "moder".\nWhat there is: cli endpoints list, cli tags list.\n' })
    })
  })
}
