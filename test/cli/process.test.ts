// The program itself: exit codes, and which stream says what.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startFabric, type Fabric } from './fabric-under-test.ts'

const program = fileURLToPath(new URL('../../cli/main.ts', import.meta.url))

describe('node cli/main.ts', () => {
  let fabric: Fabric
  beforeAll(async () => {
    fabric = await startFabric()
  })
  afterAll(() => fabric.close())

  const start = (argv: string[], env: Record<string, string> = {}) => spawn(process.execPath, [program, ...argv], { cwd: fabric.directory, env: { PATH: process.env.PATH ?? '', ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  async function run(argv: string[], env?: Record<string, string>) {
    const child = start(argv, env)
    const [out, err, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit') as Promise<[number]>])
    return { code, out, err }
  }

  it('takes address, token and TLS root from the environment', async () => {
    const environment = { SALLYPORT_EMS: fabric.ems.address, SALLYPORT_TOKEN: fabric.ems.adminToken, SALLYPORT_TLS_CA: `${fabric.directory}/tls-ca.pem` }
    const { code, out, err } = await run(['invitations', 'create', '--json'], environment)
    expect([code, err]).toEqual([0, ''])
    expect(JSON.parse(out)).toMatchObject({ uses: 1, text: expect.stringMatching(/^sp1\./) as string })
  })
  it('ends with 1 when refused and with 2 when wrongly used, saying so on standard error only', async () => {
    expect(await run(['rule-sets', 'show', 'none', '--local', fabric.directory])).toMatchObject({ code: 1, out: '', err: expect.stringContaining('There is no rule set "none".') as string })
    expect(await run(['rule-sets', 'show', '--local', fabric.directory])).toMatchObject({ code: 2, out: '', err: expect.stringContaining('needs ID-OR-NAME') as string })
    expect(await run(['authorities', 'roll', '--local', fabric.directory])).toMatchObject({ code: 2, out: '' })
  })
  it('says nothing and ends with 1 when nobody reads on', async () => {
    const database = await fabric.ems.miniflare.getD1Database('DB')
    await database.prepare(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
      INSERT INTO invitations (id, code_hash, name, group_name, uses, expires_at, created_at) SELECT printf('00000000-0000-4000-8000-%012d', i), printf('h%d', i), 'bulk', '', 1, 0, i FROM n`).run()
    const child = start(['invitations', 'list', '--json', '--local', fabric.directory])
    const said = text(child.stderr)
    child.stdout.once('data', () => child.stdout.destroy())
    const [code] = await once(child, 'exit') as [number]
    expect([code, await said]).toEqual([1, ''])
  })
})
