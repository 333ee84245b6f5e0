// Every command on its main path, against the real EMS over HTTPS, with a laptop and gateways that are really there.
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { commands } from '../../cli/commands.ts'
import { JOIN_CODE_PREFIX, readInvitation } from '../../protocol/invitation.ts'
import type { Gateway } from '../../gateway/start.ts'
import { until } from '../../start/steps.ts'
import { run } from './command-under-test.ts'
import { startFabric, type Fabric, type Laptop } from './fabric-under-test.ts'

const rules = `
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

describe('the command line', () => {
  let fabric: Fabric
  let laptop: Laptop
  let gateway: Gateway
  beforeAll(async () => {
    fabric = await startFabric()
  })
  afterAll(() => fabric.close())

  it('says that the EMS answers, and needs no token for it', async () => {
    const { code, out } = await fabric.cli(['health'])
    expect([code, out]).toEqual([0, expect.stringMatching(/^The EMS answers\. Its clock says \d{4}-/)])
    expect((await fabric.cli(['health'], { now: () => Date.now() - 90_000 })).out).toMatch(/, (8\d|90) s ahead of this one\.$/m)
    expect(await fabric.json('health')).toEqual([{ ok: true, emsTime: expect.any(Number) as number }])
  })

  describe('rule sets', () => {
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

  it('makes an invitation that enrols, lists it and withdraws it', async () => {
    const made = await fabric.cli(['invitations', 'create', '--name', 'laptops', '--uses', '2', '--expires-in', '2h', '--group', 'sales', '--ownership', 'corporate'])
    expect(made.err).toMatch(/^Shown once; good for 2 endpoints, until .* \(in 2 h\)/)
    laptop = await fabric.enrol(made.out.trim())
    const [listed] = await fabric.json<{ id: string; used: number }>('invitations', 'list')
    expect(listed).toMatchObject({ name: 'laptops', uses: 2, used: 1, group: 'sales' })
    expect((await fabric.cli(['invitations', 'list'])).out).toMatch(/1 of 2 .* sales +corporate +laptops$/m)
    expect(await fabric.json('invitations', 'withdraw', listed?.id ?? '')).toEqual([{ ok: true }])
    await expect(fabric.enrol(made.out.trim())).rejects.toMatchObject({ code: 'invitation_refused' })
  })

  describe('endpoints', () => {
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

  describe('gateways', () => {
    it('join by a code, and their decisions are explained', async () => {
      const made = await fabric.cli(['gateways', 'join-code', 'create', '--name', 'branch', '--expires-in', '30m'])
      expect(made.err).toMatch(/^Shown once; good for one gateway, until .* \(in 30 min\)/)
      gateway = await fabric.startGateway('modern', { joinCode: made.out.trim() })
      const id = await fabric.decision(gateway, laptop, '065')
      const { out } = await fabric.cli(['explain', id])
      expect(out).toMatch(/^Refused: greeter\.test:7000 \(tcp\), .*\n {2}why +065 tag-missing: a tag that the policy asks for is absent\n/)
      expect(out).toContain('  tag "modern" was absent then\n')
      expect(out).toContain('mend    Update the operating system to version 12 or later.')
      await laptop.report('12.1')
      expect((await fabric.cli(['explain', id])).out).toContain('  tag "modern" was absent then, is present now\n')
      expect(await fabric.json('explain', id)).toMatchObject([{ decision: { id, reason: 'tag-missing' }, tags: [{ tag: 'modern', state: 'present' }] }])
      const elsewhere = 'D0123456789AB-0123456789ABCDEF'
      expect(await fabric.cli(['explain', elsewhere])).toMatchObject({ code: 1, err: 'No gateway that is connected knows that decision.\nA decision is kept by the gateway that took it. See whether SPGW0123456789AB is connected: cli gateways list.\n' })
    })
    it('are marked as the fabric\'s own, with the networks that count, and not any more', async () => {
      expect(await fabric.json('gateways', 'set-fabric', gateway.serial, 'on', '--networks', '10.20.0.0/16,fd00:20::/32', '--neighbours', 'no')).toMatchObject([{ serial: gateway.serial, fabric: { networks: ['10.20.0.0/16', 'fd00:20::/32'], neighbours: false } }])
      expect((await fabric.cli(['gateways', 'list'])).out).toContain('10.20.0.0/16,fd00:20::/32')
      expect(await fabric.json('gateways', 'set-fabric', gateway.serial, 'off')).toMatchObject([{ fabric: null }])
      expect((await fabric.cli(['gateways', 'set-fabric', gateway.serial, 'on', '--networks', '0.0.0.0/0'])).code).toBe(1)
      for (const wrong of [['maybe'], ['off', '--neighbours', 'no'], ['on', '--neighbours', 'no']]) expect((await fabric.cli(['gateways', 'set-fabric', gateway.serial, ...wrong])).code).toBe(2)
    })
    it('are listed and entitled', async () => {
      expect((await fabric.cli(['gateways', 'list'])).out).toMatch(new RegExp(`^${gateway.serial} +authorised +(just now|\\d+ min ago) `, 'm'))
      expect(await fabric.json('gateways', 'entitle', gateway.serial, '--share-mode', 'selected', '--selected', gateway.serial, '--tag-types', 'zero-trust,3', '--root', 'no', '--alias', 'Branch 7')).toEqual([{ ok: true }])
      expect(await fabric.json('gateways', 'list')).toMatchObject([{ serial: gateway.serial, name: 'Branch 7', shareMode: 2, shareTagTypes: [1, 3], connected: true }])
    })
    it('are said to see what they see, and why', async () => {
      const [sight] = await fabric.json<{ because: string[] }>('gateways', 'sight', gateway.serial)
      expect(sight).toMatchObject({ state: 'authorised', shareMode: 2, owners: [gateway.serial], counts: { endpoints: 1, sockets: 1 } })
      const { out } = await fabric.cli(['gateways', 'sight', gateway.serial])
      for (const sentence of sight?.because ?? ['none']) expect(out).toContain(`  ${sentence}\n`)
      const one = await fabric.cli(['gateways', 'sight', gateway.serial, laptop.uid])
      expect(one.out).toMatch(new RegExp(`^${gateway.serial} (sees|does not see) ${laptop.uid}\\. Share mode 2: .*\n  tag "\\S+" is (present|unknown), (not )?told: `))
      expect(await fabric.cli(['gateways', 'sight', gateway.serial, '0'.repeat(32)])).toMatchObject({ code: 1, err: 'There is no such endpoint.\nWhat there is: cli gateways list, cli endpoints list.\n' })
    })
    it('without a code wait until their fingerprint is compared', async () => {
      const [{ text }] = await fabric.json<{ text: string }>('gateways', 'join-code', 'create') as [{ text: string }]
      const { promise: shown, resolve } = Promise.withResolvers<string>()
      const starting = fabric.startGateway('modern', { pinned: { ems: fabric.ems.address, pin: readInvitation(JOIN_CODE_PREFIX, text)?.pin ?? '' } }, (event) => { if (event.event === 'pending') resolve(event.fingerprint) })
      const fingerprint = await shown
      const { serial } = (await fabric.json<{ serial: string; state: string }>('gateways', 'list')).find(({ state }) => state === 'pending') ?? { serial: '' }
      const wrong = await fabric.cli(['gateways', 'authorise', serial, '--fingerprint', '00:11'])
      expect(wrong).toMatchObject({ code: 1, err: expect.stringContaining('Compare it on the gateway itself') as string })
      expect(await fabric.json('gateways', 'authorise', serial, '--fingerprint', fingerprint)).toMatchObject([{ serial, state: 'authorised' }])
      expect((await starting).serial).toBe(serial)
    })
    it('are cut off after a yes, and not after anything else', async () => {
      for (const stdin of ['', 'no\n', 'yesterday\n']) {
        expect(await fabric.cli(['gateways', 'deauthorise', gateway.serial], { terminal: true, stdin })).toMatchObject({ code: 1, err: expect.stringMatching(/\[y\/N\] Nothing was changed\.\n$/) as string })
      }
      expect(await fabric.cli(['gateways', 'deauthorise', gateway.serial, '--reason', 'stolen'], { terminal: true, stdin: 'yes\n' })).toMatchObject({ code: 0 })
      expect((await fabric.cli(['gateways', 'list'])).out).toMatch(new RegExp(`^${gateway.serial} +denied .* stolen `, 'm'))
    })
  })

  it('applies profiles and endpoint policies, which name their profile', async () => {
    const profile = 'name: Sales\nsettings:\n  proxy: { httpPort: 8700, socksPort: 8701 }\n'
    for (const said of ['created', 'unchanged']) expect((await fabric.cli(['profiles', 'apply', '-'], { stdin: profile })).out).toBe(`${said}: Sales\n`)
    const policy = 'name: Sales laptops\nposition: 10\ngroups: [sales]\nprofile: Sales\n'
    for (const said of ['created', 'unchanged']) expect((await fabric.cli(['policies', 'apply', '-'], { stdin: policy })).out).toBe(`${said}: Sales laptops\n`)
    expect((await fabric.cli(['policies', 'apply', '-'], { stdin: policy.replace('profile: Sales', 'profile: None') })).err).toContain('standard input:4:10 /profile: there is no profile "None"')
    expect((await fabric.cli(['policies', 'show', 'Sales laptops'])).out).toContain('\nprofile: Sales\n')
    // Off the fabric another one, by its name as well; taken out again it is the same everywhere.
    const away = `${policy}${policy.endsWith('\n') ? '' : '\n'}offFabricProfile: Default\n`
    expect((await fabric.cli(['policies', 'apply', '-'], { stdin: away.replace('offFabricProfile: Default', 'offFabricProfile: None') })).err).toContain('/offFabricProfile: there is no profile "None"')
    expect((await fabric.cli(['policies', 'apply', '-'], { stdin: away })).out).toMatch(/^replaced: Sales laptops\n  \/offFabricProfileId: nothing → /)
    expect((await fabric.cli(['policies', 'show', 'Sales laptops'])).out).toContain('\noffFabricProfile: Default\n')
    expect((await fabric.cli(['policies', 'apply', '-'], { stdin: policy })).out).toMatch(/^replaced: Sales laptops\n  \/offFabricProfileId: .* → nothing\n$/)
    const exported = [await fabric.cli(['policies', 'export']), await fabric.cli(['profiles', 'export'])].map(({ out }) => out)
    expect((await fabric.cli(['policies', 'apply', '-'], { stdin: exported[0] ?? '' })).out).toBe('unchanged: Sales laptops\nunchanged: Everybody\n')
    for (const [at, noun] of ['policies', 'profiles'].entries()) expect((await fabric.cli([noun, 'import', '-'], { stdin: exported[at] ?? '' })).err).toBe('Everything is so already.\n')
    expect((await fabric.cli(['profiles', 'apply', '-'], { stdin: exported[1] ?? '' })).out).not.toMatch(/created|replaced/)
    expect((await fabric.cli(['profiles', 'list'])).out).toMatch(/ Sales$/m)
    expect((await fabric.cli(['policies', 'list'])).out).toMatch(/ 10 +yes +sales .* Sales laptops$/m)
    expect((await fabric.cli(['profiles', 'show', 'Sales'])).out).toContain('httpPort: 8700')
    expect(await fabric.cli(['profiles', 'delete', 'Sales', '--yes'])).toMatchObject({ code: 1, err: 'The endpoint policy "Sales laptops" names this profile.\n' })
    expect(await fabric.json('policies', 'delete', 'Sales laptops', '--yes')).toEqual([{ ok: true }])
    expect(await fabric.json('profiles', 'delete', 'Sales', '--yes')).toEqual([{ ok: true }])
  })

  it('sets identity providers, which are asked first, and applies them from a file; signs out', async () => {
    const provider = createServer((request, response) => {
      const issuer = `http://127.0.0.1:${(provider.address() as AddressInfo).port}`
      response.end(JSON.stringify(request.url === '/keys' ? { keys: [{ kty: 'RSA' }] } : { issuer, jwks_uri: `${issuer}/keys`, authorization_endpoint: `${issuer}/a`, token_endpoint: `${issuer}/t` }))
    })
    provider.listen(0, '127.0.0.1')
    await once(provider, 'listening')
    const issuer = `http://127.0.0.1:${(provider.address() as AddressInfo).port}`
    try {
      expect((await fabric.cli(['identity-providers', 'list'])).err).toBe('There is no identity provider yet.\n')
      expect(await fabric.cli(['identity-providers', 'set', 'corp', '--issuer', issuer])).toMatchObject({ code: 2, err: expect.stringContaining('needs --issuer URL and --client-id ID') as string })
      expect((await fabric.cli(['identity-providers', 'set', 'corp', '--issuer', issuer, '--client-id', 'sallyport', '--scopes', 'openid,email,groups', '--redirect-port', '8400'])).out).toContain(`added: corp\n  name: corp\n  issuer: ${issuer}\n`)
      expect(await fabric.json('identity-providers', 'set', 'corp', '--session', '8h', '--groups-claim', 'roles', '--redirect-port', 'any')).toEqual([{ name: 'corp', issuer, clientId: 'sallyport', scopes: ['openid', 'email', 'groups'], groupsClaim: 'roles', trustEmail: 'verified', sessionSeconds: 28_800 }])
      expect((await fabric.cli(['identity-providers', 'list'])).out).toMatch(new RegExp(`^corp +8h +verified +roles +sallyport +${issuer}$`, 'm'))
      expect(await fabric.cli(['identity-providers', 'set', 'other', '--issuer', `${issuer}/realm`, '--client-id', 'x'])).toMatchObject({ code: 1, err: expect.stringContaining('is the configuration of another issuer') as string })
      expect((await fabric.cli(['identity-providers', 'set', 'other', '--issuer', `${issuer}/realm`, '--client-id', 'x', '--unchecked'])).code).toBe(0)
      expect((await fabric.cli(['identity-providers', 'delete', 'other', '--yes'])).err).toBe('The identity provider "other" is deleted.\n')
      await fabric.cli(['identity-providers', 'export', 'identity-providers.yaml'])
      expect((await fabric.cli(['identity-providers', 'apply', 'identity-providers.yaml'])).out).toBe('unchanged: corp\n')
      const file = await fabric.file('idp.yaml', (await fabric.cli(['identity-providers', 'show', 'corp'])).out.replace('28800', '3600'))
      expect((await fabric.cli(['identity-providers', 'import', file, '--yes'])).out).toBe('would be replaced: corp\n  /sessionSeconds: 28800 → 3600\nreplaced: corp\n  /sessionSeconds: 28800 → 3600\n')
      expect((await fabric.cli(['identity-providers', 'apply', await fabric.file('bad.yaml', 'name: corp\nissuer: http://id.example.com\nclientId: x\n')])).err).toContain('bad.yaml:2:9 /issuer')
      expect((await fabric.cli(['endpoints', 'show', laptop.uid])).out).toMatch(/^ {2}signed in +nobody$/m)
      expect((await fabric.cli(['endpoints', 'sign-out', laptop.uid])).err).toBe(`Nobody is signed in on ${laptop.uid}.\n`)
    } finally {
      provider.close()
    }
  })

  it('keeps of the licence what is not said', async () => {
    expect((await fabric.cli(['licence', 'issue', '--seats', '40', '--features', 'all,beta', '--ends', '2036-12-31'])).out).toContain('1 taken of 40')
    await fabric.json('licence', 'issue', '--seats', 'unlimited')
    expect(await fabric.json('licence', 'show')).toMatchObject([{ seats: null, features: ['all', 'beta'], endsAt: Date.UTC(2036, 11, 31), taken: 1 }])
    expect((await fabric.cli(['licence', 'show'])).out).toMatch(/^ {2}ends +2036-12-31T00:00:00Z$/m)
  })

  it('rolls the CA over and wraps keys anew', async () => {
    const [rolled] = await fabric.json<{ pin: string }>('authorities', 'roll', '--yes')
    const listed = await fabric.cli(['authorities', 'list'])
    expect(listed.out).toMatch(new RegExp(` active .* ${rolled?.pin ?? ''}\n.* trusted `))
    expect(await fabric.json('authorities', 'rewrap')).toEqual([{ rewrapped: 0 }])
  })

  it('follows a list to its end', async () => {
    const database = await fabric.ems.miniflare.getD1Database('DB')
    await database.prepare(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 450)
      INSERT INTO invitations (id, code_hash, name, group_name, uses, expires_at, created_at) SELECT printf('00000000-0000-4000-8000-%012d', i), printf('h%d', i), printf('bulk %d', i), '', 1, 0, i FROM n`).run()
    const listed = await fabric.json<{ id: string; name: string }>('invitations', 'list')
    expect(new Set(listed.map(({ id }) => id)).size).toBe(listed.length)
    expect(listed.filter(({ name }) => name.startsWith('bulk'))).toHaveLength(450)
    expect((await fabric.cli(['invitations', 'list'])).out.match(/^ID /gm)).toHaveLength(1)
  })

  it('makes hostile names harmless', async () => {
    const database = await fabric.ems.miniflare.getD1Database('DB')
    await database.prepare('UPDATE endpoints SET host_name = ?').bind('lap\u001b[2Jtop\u202e\nSPGW').run()
    for (const argv of [['endpoints', 'list'], ['endpoints', 'show', laptop.uid], ['endpoints', 'list', '--json']]) {
      const { out } = await fabric.cli(argv)
      expect(out.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Cf}]/u)
      expect(out).toMatch(/lap\\u001b\[2Jtop\\u202e\\(u000a|n)SPGW/)
    }
    const asked = await fabric.cli(['endpoints', 'deregister', laptop.uid], { terminal: true, stdin: 'n\n' })
    expect(asked.err).toContain('Deregister lap\\u001b[2Jtop\\u202e\\u000aSPGW (')
  })

  it('says what to do when it is refused', async () => {
    const remote = { environment: { ems: fabric.ems.address, token: 'wrong', tlsCa: `${fabric.directory}/tls-ca.pem` } }
    expect(await run(['tags', 'list'], remote)).toMatchObject({ code: 1, out: '', err: expect.stringContaining('The token came from SALLYPORT_TOKEN; it must be the ADMIN_TOKEN') as string })
    expect((await run(['tags', 'list'], { environment: { ...remote.environment, token: fabric.ems.adminToken } })).code).toBe(0)
    const untrusted = await run(['tags', 'list'], { environment: { ems: fabric.ems.address, token: 'wrong' } })
    expect(untrusted).toMatchObject({ code: 1, err: expect.stringContaining('give its root: --tls-ca FILE') as string })
    expect(await fabric.cli(['invitations', 'create', '--uses', '0'])).toMatchObject({ code: 1, err: expect.stringMatching(/not acceptable\.\n {2}\/uses: /) as string })
    expect(await fabric.cli(['rule-sets', 'delete', 'none', '--yes'])).toMatchObject({ code: 1, err: 'There is no rule set "none".\ncli rule-sets list shows what there is.\n' })
  })

  it('imports advisories and says whom they concern', async () => {
    const record = { id: 'DSA-1-1', modified: '2024-01-01T00:00:00Z', affected: [{ package: { ecosystem: 'Debian:12', name: 'curl' }, ranges: [{ type: 'ECOSYSTEM', events: [{ introduced: '0' }, { fixed: '8' }] }] }] }
    expect((await fabric.cli(['advisories', 'import', '-'], { stdin: JSON.stringify(record) })).out).toMatch(/^1 records: 1 taken/)
    expect(await fabric.json<{ id: string }>('advisories', 'list')).toMatchObject([{ id: 'DSA-1-1' }])
    expect(await fabric.json<{ advisories: number }>('advisories', 'status')).toMatchObject([{ advisories: 1 }])
    expect(await fabric.cli(['advisories', 'affected', 'DSA-1-1'])).toMatchObject({ code: 0, err: 'Nobody is affected.\n' })
    expect(await fabric.cli(['packages', 'find', 'curl'])).toMatchObject({ code: 0, err: 'Nobody has it.\n' })
    expect(await fabric.cli(['endpoints', 'vulnerabilities', laptop.uid])).toMatchObject({ code: 0, err: 'It has reported no software.\n' })
  })

  it('imports rule packs: previewed, replaced when newer, refused when older or with a mistake, removed with what they gave', async () => {
    const of = (version: string, path: string) => `name: outbreak\nversion: "${version}"\nissuedAt: 2026-11-25\ntags:\n  - { name: hit, description: \u001bno }\nruleSets:\n  - name: looks for it\n    tag: hit\n    rules:\n      linux:\n        conditions:\n          - { type: file, path: ${path} }\n`.replace('\u001bno', 'd')
    const file = await fabric.file('pack.yaml', of('1.0', '/etc/x'))
    expect((await fabric.cli(['packs', 'import', file, '--dry-run'])).out).toBe('would be imported: outbreak, version 1.0, issued 2026-11-25T00:00:00Z\n  tag "hit" (outbreak)\n  rule set "looks for it" gives "hit"\n')
    expect((await fabric.cli(['packs', 'try', file])).out).toMatch(/^looks for it \(new\): \d+ endpoints?\n {2}0 would gain the tag\n/m)
    expect(await fabric.json('packs', 'list')).toEqual([])
    expect(await fabric.cli(['packs', 'import', file], { terminal: true, stdin: 'y\n' })).toMatchObject({ code: 0, out: expect.stringMatching(/\nimported: outbreak, version 1\.0\n$/) as string })
    expect((await fabric.cli(['packs', 'import', file, '--yes'])).out).toBe('unchanged: outbreak, version 1.0\nunchanged: outbreak, version 1.0\n')
    const newer = await fabric.file('newer.yaml', of('1.1', '/etc/y'))
    expect((await fabric.cli(['packs', 'import', newer, '--dry-run'])).out).toBe('would be replaced: outbreak, version 1.0 → 1.1\n  /version: "1.0" → "1.1"\n  /ruleSets/looks for it/rules/linux/conditions/0/path: "/etc/x" → "/etc/y"\n')
    expect((await fabric.json<{ action: string }>('packs', 'import', newer, '--yes')).map(({ action }) => action)).toEqual(['replaced'])
    expect(await fabric.cli(['packs', 'import', file, '--yes'])).toMatchObject({ code: 1, err: expect.stringContaining('1.0 is older') as string })
    expect(await fabric.cli(['packs', 'import', '-', '--yes'], { stdin: of('1.1', '/etc/z') })).toMatchObject({ code: 1, err: expect.stringContaining('a pack that changed has a newer version') as string })
    expect(await fabric.cli(['packs', 'import', '-', '--yes'], { stdin: of('2', 'etc/y') })).toMatchObject({ code: 1, err: expect.stringContaining('standard input:12:33 /ruleSets/0/rules/linux/conditions/0/path: must be an absolute path') as string })
    expect((await fabric.cli(['packs', 'import', '-', '--yes'], { stdin: 'name: n\nversion: 1.10\n' })).err).toContain('standard input:2:10 /version: must be text: put it in quotes, like "1.10"')
    expect((await fabric.cli(['packs', 'try', newer])).out).toMatch(/^looks for it \(an edit\): \d+ endpoints?\n/m)
    expect((await fabric.cli(['packs', 'list'])).out).toMatch(/ 1\.1 .* hit +outbreak$/m)
    await fabric.cli(['packs', 'export', 'outbreak', 'again.yaml'])
    expect((await fabric.json<{ action: string }>('packs', 'import', 'again.yaml', '--yes')).map(({ action }) => action)).toEqual(['unchanged'])
    expect((await fabric.cli(['packs', 'show', 'outbreak'])).out).toContain('path: /etc/y')
    expect((await fabric.cli(['rule-sets', 'export'])).out).not.toContain('looks for it')
    expect((await fabric.cli(['rule-sets', 'delete', 'looks for it', '--yes'])).err).toContain('came with a pack')
    expect(await fabric.cli(['packs', 'remove', 'outbreak', '--yes'])).toMatchObject({ code: 0, err: 'The pack "outbreak" is removed.\n' })
    expect((await fabric.json<{ name: string }>('rule-sets', 'list')).map(({ name }) => name)).not.toContain('looks for it')
  })

  it('sets tags on endpoints, explains them, and takes them off', async () => {
    expect((await fabric.cli(['tags', 'create', 'finance', '--type', 'classification', '--description', 'handles money'])).err).toContain('The classification tag "finance" is there: ')
    await fabric.cli(['tags', 'create', 'infected', '--type', 'fabric'])
    expect(await fabric.json('tags', 'set', 'finance', laptop.uid)).toEqual([{ changed: 1, unchanged: 0, unknown: [], full: [] }])
    expect((await fabric.cli(['tags', 'set', 'finance', laptop.uid])).err).toBe('"finance" is set: 0 changed, 1 were so already.\n')
    const uids = await fabric.file('uids.txt', `# ours\n${laptop.uid}\n\n`)
    await fabric.cli(['tags', 'set', 'infected', '--from', uids, '--source', 'analyzer', '--reason', 'beacon \u2014 seen', '--for', '8h'])
    await fabric.cli(['tags', 'importance', 'critical', laptop.uid])
    expect((await fabric.cli(['endpoints', 'list'])).out).toMatch(/finance.*$/m)
    for (const name of ['finance', 'infected', 'importance:critical']) expect((await fabric.cli(['endpoints', 'show', laptop.uid])).out).toMatch(new RegExp(`^  tags .*${name}`, 'm'))
    expect((await fabric.cli(['explain', laptop.uid, 'infected'])).out).toMatch(/^Tag "infected" is present until \S+Z\n {2}set by analyzer on \S+Z \(just now\) because: beacon \u2014 seen, until \S+Z \(in 8 h\)\n$/)
    expect((await fabric.cli(['explain', laptop.uid, 'importance:low'])).out).toBe('Tag "importance:low" is absent\n  it is set by people or automation, not by rules, and nobody has set it here: cli tags set\n')
    expect((await fabric.cli(['tags', 'endpoints', 'infected'])).out).toMatch(new RegExp(`^${laptop.uid} +present +just now .* analyzer \\(beacon`, 'm'))
    const other = 'f'.repeat(32)
    expect((await fabric.cli(['tags', 'clear', 'infected', laptop.uid])).err).toBe('"infected" is cleared: 0 changed, 1 had it not from administrator (tags endpoints says from whom).\n')
    expect(await fabric.cli(['tags', 'clear', 'infected', `${laptop.uid},${other}`, '--source', 'analyzer'])).toMatchObject({ code: 1, err: expect.stringContaining(`"infected" is cleared: 1 changed.\n`) as string })
    expect((await fabric.cli(['tags', 'set', 'finance', '--from', await fabric.file('bad.txt', `${other}\nlaptop\n`)])).err).toContain('bad.txt:2: "laptop" is no UID')
    expect(await fabric.cli(['tags', 'set', 'finance'])).toMatchObject({ code: 2, err: expect.stringContaining('either UIDs, or --from FILE') as string })
    expect(await fabric.cli(['tags', 'set', 'modern', laptop.uid])).toMatchObject({ code: 1, err: expect.stringContaining('given by rules') as string })
    await fabric.cli(['tags', 'importance', 'none', laptop.uid])
    expect(await fabric.cli(['tags', 'delete', 'finance', '--yes'])).toMatchObject({ code: 1, err: expect.stringContaining('clear it first') as string })
    await fabric.cli(['tags', 'clear', 'finance', laptop.uid])
    for (const name of ['finance', 'infected']) expect((await fabric.cli(['tags', 'delete', name, '--yes'])).code).toBe(0)
  })

  it('revokes a certificate, deletes a rule set, deregisters', async () => {
    const [{ certificates }] = await fabric.json<{ certificates: { serial: string }[] }>('endpoints', 'show', laptop.uid) as [{ certificates: { serial: string }[] }]
    expect(await fabric.json('endpoints', 'revoke', laptop.uid, certificates[0]?.serial ?? '')).toEqual([{ ok: true }])
    expect((await fabric.cli(['endpoints', 'show', laptop.uid])).out).toContain('certificates\n  none\n')
    await expect(laptop.report('12.2')).rejects.toMatchObject({ code: 'certificate_revoked' })
    expect(await fabric.cli(['rule-sets', 'delete', 'hosts'], { terminal: true, stdin: 'y\n' })).toMatchObject({ code: 0, err: expect.stringContaining('The rule set "hosts" is deleted.') as string })
    expect((await fabric.json<{ name: string; type: number }>('tags', 'list')).filter(({ type }) => type === 1).map(({ name }) => name)).toEqual(['modern'])
    expect(await fabric.cli(['endpoints', 'deregister', laptop.uid, '--reason', 'sold', '--yes'])).toMatchObject({ code: 0, err: `${laptop.uid} is deregistered.\n` })
    expect((await fabric.cli(['endpoints', 'list'])).out).toContain(' deregistered ')
  })

  it('has tried every command', () => {
    expect(commands.map(({ name }) => name).filter((name) => ![...fabric.done].some((ran) => `${ran} `.startsWith(`${name} `)))).toEqual([])
  })
})
