// A whole machine in transparent mode: real programs without proxy settings, a real gate, the real packet filter and hosts file, a second user.
import { execFile, spawnSync } from 'node:child_process'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'

const has = (tool: string, ...args: string[]) => spawnSync(tool, args).status === 0
const reason = process.getuid?.() !== 0 ? 'needs root for namespaces' : !has('nft', '--version') ? 'needs nft' : !has('unshare', '--version') || !has('setpriv', '--version') ? 'needs unshare and setpriv (util-linux)' : !has('curl', '--version') ? 'needs curl' : null
const programAt = (name: string) => fileURLToPath(new URL(name, import.meta.url))

/** The steps of the machine's runs, each in the same namespaces, by name. */
async function machine(program: string, ...phases: string[]): Promise<Map<string, unknown>> {
  const directory = await mkdtemp(join(tmpdir(), 'machine-'))
  await chmod(directory, 0o755)
  const script = phases.map((phase) => `"$0" "$1" "$2" ${phase}`).join('; ')
  try {
    const { stdout } = await promisify(execFile)('unshare', ['-n', '-m', '--propagation', 'private', 'sh', '-c', script, process.execPath, programAt(program), directory], { timeout: 600_000, maxBuffer: 1 << 22 })
    return new Map(stdout.trim().split('\n').map((line) => JSON.parse(line) as { step: string; value: unknown }).map(({ step, value }) => [step, value]))
  } finally {
    await rm(directory, { recursive: true, force: true, maxRetries: 10 })
  }
}

describe.skipIf(reason !== null)(`a machine in transparent mode${reason === null ? '' : ` (${reason})`}`, () => {
  let steps = new Map<string, unknown>()
  let afterKill = new Map<string, unknown>()
  beforeAll(async () => {
    steps = await machine('machine-process.ts', 'all')
    afterKill = await machine('machine-process.ts', 'killed', 'after')
  }, 1_260_000)
  const WIKI = 'page of wiki.corp.test:8000 at 127.0.0.1'

  it('says what programs reach, and what only by PAC file and SOCKS', () => {
    expect(steps.get('started')).toMatchObject({ state: { asked: true, served: ['wide.corp.test', 'wiki.corp.test', '10.9.0.0/16', 'fd00:9::/32'], lacking: ['*.wild.test (a wildcard): by the PAC file and SOCKS only'] } })
  })
  it('opens a protected name by curl, by either family, by HTTP and TLS, by Node and by Chromium', () => {
    expect(steps.get('curl')).toEqual([WIKI, WIKI, WIKI, 'secure page'])
    expect(steps.get('node')).toEqual([`${WIKI}\n`, WIKI])
    if (steps.has('chromium')) expect(steps.get('chromium')).toContain(WIKI)
  })
  it('asks no resolver for a protected name, whichever program opened it', () => {
    // The other name is there to show that questions are seen.
    expect(steps.get('questions')).toEqual({ named: [], other: true, elsewhere: [0, 0] })
  })
  it('carries protocols whose server speaks first, and ports that another program has', () => {
    expect(steps.get('a server that speaks first')).toBe('hello first\nyou said and I answer\n')
    expect(steps.get('one of a thousand ports')).toBe('page of wide.corp.test:9500 at 127.0.0.1')
    // The local server would have said that it is at the name's own address.
    expect(steps.get('a port that another program has')).toEqual({ first: 'a server at 127.0.0.1\n', other: expect.stringMatching(/^failed 1 $/) as string, unprotected: expect.stringMatching(/^failed 1 $/) as string })
  })
  it('gives nothing to whoever asks the name\'s address for another name: curl by address, Host, no SNI, other SNI, a page that rebinds', () => {
    expect(steps.get('other names')).toEqual([expect.stringMatching(/^failed \d+ $/), expect.stringMatching(/^failed \d+ $/), expect.stringMatching(/^failed \d+ $/), expect.stringMatching(/^failed \d+ $/)])
    if (steps.has('chromium, a page that rebinds its name')) expect(steps.get('chromium, a page that rebinds its name')).toEqual({ page: expect.not.stringContaining('page of') as string, hits: [] })
  })
  it('carries addresses of protected ranges through the gate, IPv4 and IPv6, and leaves others direct', () => {
    expect(steps.get('addresses')).toEqual({ pages: ['page of 10.9.8.7:8000 at 10.9.8.7', 'page of [fd00:9::7]:8000 at fd00:9::7'], opened: 2 })
    expect(steps.get('direct')).toEqual({ page: 'page of 10.200.0.1:8000 at 10.200.0.1', opened: 0 })
  })
  it('does not touch another user\'s traffic, and serves no other user, root neither', () => {
    expect(steps.get('another user')).toEqual({ pac: expect.stringMatching(/^failed \d+ $/) as string, pacOfFirst: true, address: 'page of 10.9.8.7:8000 at 10.9.8.7', name: expect.stringMatching(/^failed \d+ $/) as string, root: expect.stringMatching(/^failed \d+ $/) as string, opened: 0, refused: 3 })
    expect(steps.get('the port that connections are led to')).toEqual([expect.stringMatching(/^failed \d+ $/), expect.stringMatching(/^failed \d+ $/)])
  })
  it('tells a refusal to whom it can, and lets nothing through', () => {
    expect(steps.get('refused')).toEqual({ http: expect.stringMatching(/Tags: compliant \(absent\)(?:.|\n)*tag-missing(?:.|\n)*403$/) as string, tls: expect.stringMatching(/^failed \d+ $/) as string, address: expect.stringMatching(/^failed \d+ $/) as string })
  })
  it('puts back what others take away', () => {
    expect(steps.get('meddled')).toEqual({ page: WIKI, address: 'page of 10.9.8.7:8000 at 10.9.8.7' })
  })
  it('is as it was when the mode is switched off, when the agent ends, and after a kill by the next start', () => {
    const clean = { hosts: '127.0.0.1 localhost\n10.0.0.1 printer\n', tables: 'table inet watch', marker: false }
    expect(steps.get('switched off')).toEqual({ ...clean, page: 'page of 10.9.8.7:8000 at 10.9.8.7' })
    expect(steps.get('closed')).toEqual(clean)
    expect(afterKill.get('meddled')).toBeDefined()
    expect(afterKill.has('closed')).toBe(false)
    expect(afterKill.get('after a kill')).toMatchObject(clean)
  })
})

describe.skipIf(reason !== null)(`agent run --transparent${reason === null ? '' : ` (${reason})`}`, () => {
  let steps = new Map<string, unknown>()
  beforeAll(async () => {
    steps = await machine('command-process.ts', 'all')
  }, 1_260_000)
  const clean = { hosts: '127.0.0.1 localhost\n', tables: '' }
  const changed = { hosts: expect.stringContaining('wiki.corp.test') as string, tables: 'table inet sallyport_agent' }

  it('changes the machine for the enrolled user, and says what it serves', () => {
    expect(steps.get('enrolled')).toContain(`serve user id 1234 only`)
    expect(steps.get('running')).toMatchObject({ ...changed, status: { transparent: { asked: true, served: ['wiki.corp.test', '10.9.0.0/16'], lacking: [] } }, text: expect.stringContaining('transparent  wiki.corp.test, 10.9.0.0/16') as string })
    // The profile of this scene gives no address for the gateway: the way ends there, and says so.
    expect(steps.get('asked')).toEqual({ first: expect.stringContaining('wiki.corp.test:8000 is protected by gateway SPGW0123456789AB') as string, other: expect.stringMatching(/^failed \d+ $/) as string, root: expect.stringMatching(/^failed \d+ $/) as string })
  })
  it('takes over what a kill has left, and leaves the machine as it was at SIGTERM', () => {
    expect(steps.get('killed')).toEqual(changed)
    expect(steps.get('ended')).toEqual({ between: changed, after: clean, code: 0 })
  })
})
