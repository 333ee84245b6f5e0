// Every command on its main path, against the real EMS over HTTPS, with a laptop and gateways that are really there.
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { commands } from '../../cli/commands.ts'
import { run } from './command-under-test.ts'
import { startFabric, type Fabric, type Laptop } from './fabric-under-test.ts'
import { endpointsTried } from './endpoints-tried.ts'
import { gatewaysTried } from './gateways-tried.ts'
import { ruleSetsTried } from './rule-sets-tried.ts'

describe('the command line', () => {
  let fabric: Fabric
  let laptop: Laptop
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

  ruleSetsTried(() => ({ fabric }))

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

  endpointsTried(() => ({ fabric, laptop }))
  gatewaysTried(() => ({ fabric, laptop }))

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
      expect(await fabric.json('identity-providers', 'set', 'corp', '--email-domains', 'corp.example,corp.test')).toMatchObject([{ emailDomains: ['corp.example', 'corp.test'] }])
      expect((await fabric.json('identity-providers', 'set', 'corp', '--email-domains', 'all'))[0]).not.toHaveProperty('emailDomains')
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
