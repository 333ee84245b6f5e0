// What people type: settings of `run`, the template, and tokens. Wrong usage exits with 2 and says what was meant.
import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { readCommand } from '../../../gateway/config.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'firewall-cli-'))
})
afterEach(() => rm(directory, { recursive: true }))

const gateway = (...args: string[]): Promise<{ code: number; out: string; err: string }> => new Promise((resolve) => {
  execFile(process.execPath, ['gateway/main.ts', ...args], (error, out, err) => resolve({ code: error === null ? 0 : Number(error.code), out, err }))
})
const run = (...args: string[]) => {
  const command = readCommand(['run', '--state', directory, '--policies', 'p.yaml', ...args])
  return command.verb === 'run' ? command.firewall : undefined
}

describe('run', () => {
  it('has neither filter nor lists unless told', () => expect(run()).toBeNull())
  it('takes both, with times', () => {
    expect(run('--firewall')).toEqual({ filter: true, lists: null, sightMs: 120_000, staleMs: 180_000 })
    expect(run('--firewall', '--sights', 'sights.yaml')).toMatchObject({ sightsFile: 'sights.yaml' })
    expect(run('--lists', '[::]:8444', '--lists-cert', 'c', '--lists-key', 'k', '--sight-seconds', '60', '--stale-seconds', '90'))
      .toEqual({ filter: false, lists: { listen: { host: '::', port: 8444 }, files: { certificate: 'c', key: 'k' } }, sightMs: 60_000, staleMs: 90_000 })
  })
  it.each([[['--lists', 'x']], [['--lists', '[::]:1', '--lists-cert', 'c']], [['--lists-cert', 'c', '--lists-key', 'k']], [['--sight-seconds', '5']], [['--sights', 'x']], [['--firewall', '--sight-seconds', '0']], [['--firewall', '--stale-seconds', '1.5']], [['--tag', 'a']]])(
    'refuses %s', (args) => expect(() => run(...args)).toThrow())
})

describe('lists token', () => {
  it('creates, lists and revokes, and shows a token once', async () => {
    const created = await gateway('lists', 'token', 'create', 'edge', '--state', directory)
    expect(created).toMatchObject({ code: 0, out: expect.stringMatching(/^slt1_[\w-]{43}\n$/) as string })
    expect((await gateway('lists', 'token', 'create', 'edge', '--state', directory)).code).toBe(1)
    const listed = await gateway('lists', 'token', 'list', '--state', directory, '--json')
    expect(JSON.parse(listed.out)).toMatchObject([{ name: 'edge' }])
    expect(listed.out).not.toContain(created.out.trim().slice(5))
    expect((await gateway('lists', 'token', 'revoke', 'edge', '--state', directory)).code).toBe(0)
    expect((await gateway('lists', 'token', 'revoke', 'edge', '--state', directory)).code).toBe(1)
  })
  it.each([[['lists']], [['lists', 'token']], [['lists', 'token', 'create']], [['lists', 'token', 'list', 'x']], [['lists', 'token', 'make', 'x']], [['lists', 'token', 'create', 'a', 'b']], [['firewall']], [['firewall', 'template', 'x']], [['firewall', 'template', '--tag', 'x"; flush ruleset']]])(
    'is refused as %s', (words) => expect(() => readCommand([...words, '--state', directory])).toThrow())
})
