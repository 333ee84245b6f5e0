// Wrong usage: exit code 2, a sentence on standard error, nothing on standard output, and nobody asked.
import { chmod, mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { run } from './command-under-test.ts'

const UID = '0123456789abcdef0123456789abcdef'
const SERIAL = 'SPGW0123456789AB'
// Discard port: whoever was asked by mistake would fail with 1, not 2.
const environment = { ems: 'https://127.0.0.1:9', token: 'a-token' }

describe('wrong usage', () => {
  const cases: [argv: string[], says: string][] = [
    [[], 'Say what to do.'],
    [['endpoints'], '"endpoints" is no command.\n  endpoints list'],
    [['endpoints', 'dance'], '"endpoints dance" is no command.'],
    [['endpoints', 'list', 'all'], '"all" is one word too many.'],
    [['endpoints', 'list', '--nonsense'], 'Unknown option \'--nonsense\''],
    [['endpoints', 'list', '--uses', '3'], 'endpoints list has no option --uses.'],
    [['endpoints', 'show'], 'endpoints show needs UID.'],
    [['endpoints', 'show', 'laptop'], 'UID: must be 32 lower-case hex digits, not "laptop".'],
    [['endpoints', 'deregister', UID], 'standard input is no terminal: say --yes.'],
    [['gateways', 'deauthorise', SERIAL], 'say --yes'],
    [['authorities', 'roll'], 'say --yes'],
    [['gateways', 'authorise', SERIAL], 'gateways authorise needs --fingerprint F.'],
    [['gateways', 'entitle', SERIAL], 'needs what is to change'],
    [['gateways', 'entitle', SERIAL, '--share-mode', 'some'], '--share-mode: must be own, all or selected, not "some".'],
    [['gateways', 'entitle', SERIAL, '--share-mode', 'selected'], 'needs --selected'],
    [['gateways', 'entitle', SERIAL, '--share-mode', 'all', '--selected', SERIAL], '--selected stands with'],
    [['gateways', 'entitle', SERIAL, '--tag-types', '1,9'], '--tag-types: must be among 1 (zero-trust)'],
    [['gateways', 'entitle', SERIAL, '--root', 'maybe'], '--root: must be yes or no'],
    [['gateways', 'entitle', SERIAL, '--root', 'yes', '--root', 'no'], '--root is given twice.'],
    [['invitations', 'create', '--uses', 'many'], '--uses: must be a whole number, not "many".'],
    [['invitations', 'create', '--expires-in', '1 day'], '--expires-in: must be a number with s, m, h or d'],
    [['licence', 'issue'], 'needs what is to change'],
    [['licence', 'issue', '--ends', '2027-02-30'], '--ends: must be never, a date'],
    [['explain', 'nonsense'], 'SUBJECT: must be the id of a decision'],
    [['explain', UID], 'explain needs TAG'],
    [['explain', 'D0123456789AB-0123456789ABCDEF', 'tag'], 'explain takes a decision alone'],
    [['health', '--ems', 'http://ems.example.com'], 'without TLS the token would be read on the way'],
    [['health', '--ems', 'https://ems.example.com/path'], 'The EMS is named by its origin'],
    [['health', '--local', '--ems', 'https://ems.example.com'], 'do not stand beside it'],
    [['health', '--local', '/nonexistent'], '(After --local stands a directory with secrets.json in it; /nonexistent has none.)'],
  ]
  for (const [argv, says] of cases) {
    it(`cli ${argv.join(' ')}`, async () => {
      const { code, out, err } = await run(argv, { environment })
      expect([code, out]).toEqual([2, ''])
      expect(err).toContain(says)
      expect(err).toMatch(/^cli .*--help says how it is used\.$/m)
    })
  }

  it('is a token on the command line, which is not repeated', async () => {
    for (const argv of [['health', '--token', 'my-secret'], ['health', '--token=my-secret']]) {
      const { code, err } = await run(argv, { environment })
      expect([code, err.includes('my-secret'), err.includes('everybody on this machine sees it')]).toEqual([2, false, true])
    }
  })
})

describe('which EMS', () => {
  let directory: string
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'cli-'))
  })
  afterEach(() => rm(directory, { recursive: true }))

  it('must be said, and with which token', async () => {
    expect(await run(['tags', 'list'], { directory })).toMatchObject({ code: 2, err: expect.stringContaining('Say which EMS: --ems') as string })
    expect(await run(['tags', 'list'], { directory, environment: { ems: 'https://127.0.0.1:9' } })).toMatchObject({ code: 2, err: expect.stringContaining('SALLYPORT_TOKEN') as string })
    expect(await run(['tags', 'list'], { directory, environment: { ems: 'https://127.0.0.1:9', token: 'two words' } })).toMatchObject({ code: 2, err: expect.not.stringContaining('two words') as string })
  })

  it('that does not answer: exit code 1, a sentence, and what to look at', async () => {
    const away = await run(['health'], { directory, environment: { ems: 'https://127.0.0.1:9' } })
    expect(away).toMatchObject({ code: 1, out: '' })
    expect(away.err).toBe('The EMS at https://127.0.0.1:9 was not reached: ECONNREFUSED\nIs that its address (--ems, SALLYPORT_EMS), and is it reached from here?\n')
  })

  it('is the local one of the current directory when nothing is said; that is said', async () => {
    await mkdir(join(directory, '.sallyport'))
    await writeFile(join(directory, '.sallyport', 'secrets.json'), JSON.stringify({ adminToken: 'local', wrappingKeys: 'k1:', port: 9 }))
    await writeFile(join(directory, '.sallyport', 'tls-ca.pem'), '-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n')
    for (const argv of [['health'], ['health', '--local'], ['--local', 'health'], ['--local', '.sallyport', 'health'], ['health', '--local=.sallyport']]) {
      const { code, err } = await run(argv, { directory })
      expect([code, argv.length === 1]).toEqual([1, err.startsWith('No EMS is named; asking the local one')])
      expect(err).toContain('The EMS at https://localhost:9 was not reached')
      expect(err).toContain(`npm start -- --directory ${join(directory, '.sallyport')}`)
    }
    // Half of an answer is not taken for the other half: a token for another EMS is not sent to this one.
    expect((await run(['health'], { directory, environment: { token: 'for-another' } })).code).toBe(2)
    await writeFile(join(directory, '.sallyport', 'secrets.json'), '{"adminToken":')
    expect(await run(['health'], { directory })).toMatchObject({ code: 1, err: expect.stringContaining('is damaged') as string })
  })

  it('is not asked with files that can not be read, and a token that others can read is said', async () => {
    const environment = { ems: 'https://127.0.0.1:9' }
    expect(await run(['tags', 'list', '--token-file', 'none'], { directory, environment })).toMatchObject({ code: 1, err: expect.stringMatching(/none can not be read \(ENOENT\)\./) as string })
    await writeFile(join(directory, 'token'), 'a-token\n', { mode: 0o600 })
    const quiet = await run(['tags', 'list', '--token-file', 'token'], { directory, environment })
    expect(quiet.err).not.toContain('chmod')
    await chmod(join(directory, 'token'), 0o644)
    const warned = await run(['tags', 'list', '--token-file', 'token'], { directory, environment })
    expect(warned.err).toContain('Others on this machine may read token')
    await writeFile(join(directory, 'ca.pem'), 'nothing')
    expect(await run(['tags', 'list', '--token-file', 'token', '--tls-ca', 'ca.pem'], { directory, environment })).toMatchObject({ code: 1, err: expect.stringContaining('holds no certificate in PEM') as string })
  })
})
