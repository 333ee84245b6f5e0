// Who may import whom, how long a file may be, and what must stand nowhere. Each refusal prints its reason.
import { readFileSync, readdirSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Room → rooms it may import, and why the others are kept out. */
const rooms: Record<string, { may: string[]; because: string }> = {
  protocol: { may: [], because: 'the contract knows neither end' },
  domain: { may: ['protocol'], because: 'what is true is pure: no I/O, no clock, no wire' },
  identity: { may: ['protocol', 'domain'], because: 'it runs in workerd and in Node alike' },
  schema: { may: ['protocol', 'domain'], because: 'what is remembered does not know who asks' },
  'durable-objects': { may: ['protocol', 'domain', 'schema', 'identity', 'workers/env.ts', 'workers/context.ts', 'workers/flows'], because: 'objects listen; they do not answer requests (identity: a socket proves itself inside the object; context: flows are handed one)' },
  workers: { may: ['protocol', 'domain', 'identity', 'schema', 'durable-objects'], because: 'the Worker has nothing of the Node programs' },
  node: { may: ['protocol', 'domain', 'identity'], because: 'it serves agent and gateway alike' },
  agent: { may: ['protocol', 'domain', 'identity', 'node'], because: 'an agent knows the wire, not the EMS or the gateway' },
  gateway: { may: ['protocol', 'domain', 'identity', 'node'], because: 'a gateway knows the wire, not the EMS or the agent' },
  cli: { may: ['protocol', 'domain', 'node'], because: 'the CLI uses the HTTP API like anybody else' },
}
/** Packages that have one door. */
const doors: Record<string, RegExp> = {
  '@peculiar/x509': /^identity\//, 'reflect-metadata': /^identity\//, 'http-message-sig': /^identity\//, jose: /^identity\//,
  'drizzle-orm': /^(schema|workers|durable-objects)\//, ws: /^(node|gateway|agent|bench)\//, 'prom-client': /^gateway\/metrics\//, pino: /^node\//,
}
const pure = ['protocol', 'domain', 'identity']

const walk = (directory: string): string[] => readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
  const path = join(directory, entry.name)
  if (entry.isDirectory()) return ['node_modules', 'migrations', '.git', '.sallyport', '.wrangler'].includes(entry.name) ? [] : walk(path)
  return entry.name.endsWith('.ts') ? [relative(root, path)] : []
})
const files = walk(root).map((path) => ({ path, text: readFileSync(join(root, path), 'utf8') }))
const sources = files.filter(({ path }) => !path.startsWith('test/') && !path.endsWith('.config.ts'))
const importsOf = (text: string) => [...text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map((match) => match[1] ?? '')

describe('the house', () => {
  it('has every source file in a room', () => {
    const known = [...Object.keys(rooms), 'start', 'bench', 'types']
    expect(sources.filter(({ path }) => !known.includes(path.split('/')[0] ?? '')).map(({ path }) => path)).toEqual([])
  })

  for (const [room, { may, because }] of Object.entries(rooms)) {
    it(`${room} imports only ${may.join(', ') || 'itself'}: ${because}`, () => {
      const wrong = sources.filter(({ path }) => path.startsWith(`${room}/`)).flatMap(({ path, text }) => importsOf(text)
        .filter((target) => target.startsWith('.'))
        .map((target) => relative(root, join(root, path, '..', target)))
        .filter((target) => !target.startsWith(`${room}/`) && !may.some((allowed) => target === allowed || target.startsWith(`${allowed}/`)))
        .map((target) => `${path} imports ${target}`))
      expect(wrong).toEqual([])
    })
  }

  it('lets a package in by its one door only', () => {
    const wrong = sources.flatMap(({ path, text }) => importsOf(text)
      .map((target) => Object.keys(doors).find((name) => target === name || target.startsWith(`${name}/`)))
      .filter((name) => name !== undefined && !doors[name]?.test(path))
      .map((name) => `${path} imports ${name}`))
    expect(wrong).toEqual([])
  })

  it('keeps Node out of the rooms that run in workerd too, and clocks out of the domain', () => {
    const wrong = sources.filter(({ path }) => pure.includes(path.split('/')[0] ?? ''))
      .filter(({ path, text }) => importsOf(text).some((target) => target.startsWith('node:')) || (path.startsWith('domain/') && /Date\.now\(|Math\.random\(|new Date\(\)/.test(text)))
      .map(({ path }) => path)
    expect(wrong).toEqual([])
  })

  it('reads the environment at the door only', () => {
    const wrong = sources.filter(({ path, text }) => /process\.env/.test(text) && !/^(node\/config|start\/|bench\/)/.test(path)).map(({ path }) => path)
    expect(wrong).toEqual([])
  })

  it('holds no file over 300 lines, and nine of ten under 180', () => {
    const lengths = sources.map(({ path, text }) => ({ path, lines: text.split('\n').length - 1 })).sort((a, b) => a.lines - b.lines)
    expect(lengths.filter(({ lines }) => lines > 300)).toEqual([])
    expect(lengths[Math.floor(lengths.length * 0.9)]?.lines).toBeLessThanOrEqual(180)
  })

  it('opens every source file with what it is for', () => {
    expect(sources.filter(({ text }) => !/^(#!.*\n)?(\/\/|\/\*)/.test(text)).map(({ path }) => path)).toEqual([])
  })

  it('leaves no escape hatch: no any, no silenced compiler, no empty catch, no unverified TLS left unexplained', () => {
    const wrong = sources.flatMap(({ path, text }) => text.split('\n')
      .filter((line) => /\bas any\b|@ts-(ignore|expect-error|nocheck)|catch *(\([^)]*\))? *\{ *\}|NODE_TLS_REJECT_UNAUTHORIZED/.test(line))
      .map((line) => `${path}: ${line.trim()}`))
    expect(wrong).toEqual([])
  })
})
