// Advisories by the command line: whatever form a file has, record by record, refusals with their lines; and the real database, to the laptop's tag.
import { existsSync, readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import canonicalize from 'canonicalize'
import { recordsOf } from '../../cli/records.ts'
import { copyBytes, fromPem, utf8 } from '../../identity/encoding.ts'
import { generateKey, sha256Hex } from '../../identity/keys.ts'
import { createCsr } from '../../identity/request.ts'
import { createControlClient, type ControlClient, type Identity } from '../../node/control-client.ts'
import { silentLog } from '../../node/logging.ts'
import type { Sections } from '../../protocol/facts.ts'
import { INVITATION_PREFIX, readInvitation } from '../../protocol/invitation.ts'
import { report } from '../../protocol/operations/endpoint.ts'
import { enrol } from '../../protocol/operations/public.ts'
import { startFabric, type Fabric } from './fabric-under-test.ts'

const published = new URL('../../../shared/data/osv-pypi.ndjson', import.meta.url)
const there = existsSync(published)
const record = (id: string, changes: object = {}) => ({ id, modified: '2024-01-01T00:00:00Z', details: 'prose\n'.repeat(20), affected: [{ package: { ecosystem: 'PyPI', name: 'pyyaml' }, ranges: [{ type: 'ECOSYSTEM', events: [{ introduced: '0' }, { fixed: '5.4' }] }] }], ...changes })

describe('records of a file', () => {
  const read = async (text: string, pieceLength = text.length) => {
    async function* pieces() { for (let at = 0; at < text.length; at += pieceLength) yield await Promise.resolve(text.slice(at, at + pieceLength)) }
    const found: (string | number | [number, string])[] = []
    for await (const each of recordsOf(pieces())) found.push(each.ok ? JSON.stringify(each.value) : [each.line, each.reason])
    return found
  }
  it.each([1, 2, 7, 100_000])('are found in every form, in pieces of %i', async (pieceLength) => {
    const values = [{ a: '}{"\\' }, { b: [{ c: 'line\nfeed' }] }, {}]
    const expected = values.map((value) => JSON.stringify(value))
    for (const text of [values.map((value) => JSON.stringify(value)).join('\n'), JSON.stringify(values), JSON.stringify(values, null, 2), `\ufeff${values.map((value) => JSON.stringify(value, null, 1)).join('\n')}\n\n`]) expect(await read(text, pieceLength)).toEqual(expected)
  })
  it('that are broken are told with their line, and the rest goes on', async () => {
    const text = '{"a":1}\nnonsense\n{"a":"no end\n{"a":2}\n{"a":[\n{"a":3}\n{"a":}\n{"a":4'
    for (const pieceLength of [text.length, 3]) {
      expect(await read(text, pieceLength)).toEqual(['{"a":1}', [2, 'is not a JSON object'], [3, 'a string is not closed on its line'], '{"a":2}', [5, 'is cut off'], '{"a":3}', [7, 'is not JSON'], [8, 'is cut off']])
    }
  })
})

describe('cli advisories', () => {
  let fabric: Fabric
  beforeAll(async () => { fabric = await startFabric() })
  afterAll(() => fabric.close())
  type Sum = { records: number; taken: number; unchanged: number; ignored: number; refused: { line: number; id: string | null; reason: string }[]; doubted: { line: number; id: string | null; reason: string }[] }

  /** A laptop with software. */
  async function laptop(): Promise<{ uid: string; client: ControlClient; send(sequence: number, sections: Partial<Sections>): Promise<void> }> {
    const [{ text }] = await fabric.json<{ text: string }>('invitations', 'create') as [{ text: string }]
    const invitation = readInvitation(INVITATION_PREFIX, text)
    if (invitation === null) throw new Error('no invitation was given')
    const keys = await generateKey(true)
    const identity: { current: Identity | null } = { current: null }
    const client = createControlClient({ ems: invitation.ems, identity: () => identity.current, tlsCa: [fabric.ems.tlsCaPem], now: Date.now, log: silentLog() })
    const { uid, certificate } = await client.call(enrol, { body: { invitation: invitation.code, csr: await createCsr(keys, 'laptop'), hostName: 'laptop', os: 'linux', agentVersion: '0.1.0', protocol: '7.0.0' } })
    identity.current = { privateKey: keys.privateKey, certificateDer: copyBytes(fromPem('CERTIFICATE', certificate) ?? new Uint8Array()) }
    return {
      uid, client,
      async send(sequence, sections) {
        const hashes = Object.fromEntries(await Promise.all(Object.entries(sections).map(async ([name, value]) => [name, await sha256Hex(utf8(canonicalize(value) ?? ''))] as const)))
        await client.call(report, { body: { sequence, sections, hashes } })
      },
    }
  }

  it('takes a file whatever its form, tells refusals by line, and is as good twice', async () => {
    const lines = [record('PYSEC-2024-1', { aliases: ['CVE-2024-10001'] }), record('PYSEC-2024-2', { affected: [{ package: { ecosystem: 'PyPI', name: 'x' }, ranges: [{ type: 'ECOSYSTEM', events: [{ introduced: '0' }, { fixed: 'never' }] }] }] }), record('PYSEC-2024-3', { modified: 'yesterday' })]
    const file = await fabric.file('advisories.ndjson', `${lines.map((each) => JSON.stringify(each)).join('\n')}\nnonsense\n`)
    const [first] = await fabric.json<Sum>('advisories', 'import', file, '--source', 'trial', '--whole')
    expect(first).toMatchObject({ records: 4, taken: 2, unchanged: 0, ignored: 0, refused: [{ line: 3, id: 'PYSEC-2024-3' }, { line: 4, id: null, reason: 'is not a JSON object' }], doubted: [{ line: 2, id: 'PYSEC-2024-2', reason: expect.stringContaining('"never" is no pep440 version') as string }] })
    const again = await fabric.cli(['advisories', 'import', '-', '--skip', '0'], { stdin: JSON.stringify([lines[0]]) })
    expect([again.code, again.out]).toEqual([0, '1 records: 0 taken, 1 known, 0 of no use here (no package that is matched), 0 refused\n'])
    expect((await fabric.cli(['advisories', 'import', '-'], { stdin: 'nonsense' }))).toMatchObject({ code: 1, err: expect.stringContaining('line 1: is not a JSON object\nEvery record was refused.') as string })
    expect((await fabric.cli(['advisories', 'import', '/nonexistent/file']))).toMatchObject({ code: 1, err: '/nonexistent/file can not be read (ENOENT).\n' })
    const nvd = { resultsPerPage: 1, vulnerabilities: [{ cve: { id: 'CVE-2024-10001', lastModified: '2024-01-01T00:00:00.000', metrics: { cvssMetricV31: [{ cvssData: { vectorString: 'CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H' } }] } } }] }
    expect(await fabric.json<Sum>('advisories', 'import', await fabric.file('nvd.json', JSON.stringify(nvd, null, 2)), '--source', 'nvd')).toMatchObject([{ records: 1, taken: 1 }])
    expect((await fabric.cli(['advisories', 'list', 'CVE-2024-10001'])).out).toMatch(/PYSEC-2024-1 +unrated +trial +CVE-2024-10001/)
    expect((await fabric.cli(['advisories', 'status'])).out).toMatch(/^3 advisories; 0 packages in the fleet, 0 of them affected\n {2}PyPI by osv: in part\n {2}PyPI by trial: whole, /)
  })

  it.skipIf(!there)(`imports the real database: an endpoint with vulnerable packages has their CVEs and the tag${there ? '' : ' (skipped: shared/data is not here)'}`, { timeout: 300_000 }, async () => {
    const rules = await fabric.file('rules.yaml', 'name: vulnerable\ntag: vulnerable\nrules: { linux: { conditions: [{ type: vulnerable-devices, severity: unrated }] } }\n')
    expect((await fabric.cli(['rule-sets', 'apply', rules])).code).toBe(0)
    const { uid, client, send } = await laptop()
    const packages = [['PyYAML', '5.3'], ['requests', '2.19.0'], ['Jinja2', '2.11.2'], ['urllib3', '1.26.4'], ['setuptools', '75.0.0']].map(([name = '', version = '']) => ({ ecosystem: 'pypi' as const, name, version }))
    try {
      await send(1, { os: { type: 'linux', name: 'Debian GNU/Linux', version: '12.8', kernel: '6.1', architecture: 'x64' }, software: { packages } })
      const [sum] = await fabric.json<Sum>('advisories', 'import', published.pathname, '--source', 'pypa', '--whole')
      expect([sum?.records, sum?.refused, sum?.doubted.map(({ id }) => id)]).toEqual([readFileSync(published, 'utf8').trim().split('\n').length, [], ['PYSEC-2019-125', 'PYSEC-2021-371']])
      let seen: { id: string; package: string; fixed: string | null }[] = []
      for (let next = false; !next;) {
        seen = await fabric.json('endpoints', 'vulnerabilities', uid)
        const [state] = await fabric.json<{ settled: boolean }>('advisories', 'status')
        next = state?.settled === true
      }
      // By hand, from the advisories of these packages.
      const of = (name: string) => seen.filter((each) => each.package === name).map(({ id, fixed }) => [id, fixed])
      expect(of('pyyaml')).toEqual([['CVE-2020-14343', '5.4'], ['CVE-2020-1747', '5.3.1']])
      expect(of('requests')).toEqual(expect.arrayContaining([['CVE-2018-18074', '2.20.0'], ['CVE-2023-32681', '2.31.0']]))
      expect(of('jinja2')).toEqual(expect.arrayContaining([['CVE-2020-28493', '2.11.3']]))
      expect(of('urllib3')).toEqual(expect.arrayContaining([['CVE-2021-33503', '1.26.5']]))
      expect(of('setuptools')).toEqual([])
      expect((await fabric.cli(['endpoints', 'show', uid])).out).toContain('vulnerable')
      expect(await fabric.json<{ uid: string }>('advisories', 'affected', 'CVE-2020-14343')).toMatchObject([{ uid, packages: [{ name: 'pyyaml', version: '5.3' }] }])
      expect(await fabric.json<{ uid: string }>('packages', 'find', 'requests', '--ecosystem', 'PyPI', '--version', '2.19.0')).toMatchObject([{ uid }])
      expect(await fabric.json('packages', 'find', 'requests', '--version', '2.32.0')).toEqual([])
      expect((await fabric.json<{ tags: { state: string }[] }>('endpoints', 'show', uid))[0]?.tags).toMatchObject([{ state: 'present' }])
      await send(2, { software: { packages: packages.slice(4) } })
      expect((await fabric.json<{ tags: unknown[] }>('endpoints', 'show', uid))[0]?.tags).toEqual([])
    } finally {
      await client.close()
    }
  })
})
