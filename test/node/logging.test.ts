// A log line is one JSON object with its event, and no secret in it. Waiting grows, is bounded, and differs between clients.
import { describe, expect, it } from 'vitest'
import { jitteredBackoff } from '../../node/backoff.ts'
import { readArguments, UsageError } from '../../node/config.ts'
import { createLog } from '../../node/logging.ts'

describe('a log line', () => {
  it('is one line of JSON with its event and time', () => {
    const lines: string[] = []
    createLog({ name: 'agent', destination: { write: (line) => { lines.push(line) } } }).info({ event: 'started', port: 1 }, 'Started\nnow.')
    expect(lines).toHaveLength(1)
    expect(lines[0]?.trimEnd()).not.toContain('\n')
    expect(JSON.parse(lines[0] ?? '')).toMatchObject({ event: 'started', port: 1, name: 'agent', msg: 'Started\nnow.' })
  })
  it('shows no key, token, certificate or invitation', () => {
    const lines: string[] = []
    const log = createLog({ name: 'agent', destination: { write: (line) => { lines.push(line) } } })
    for (const name of ['privateKey', 'token', 'authorization', 'invitation', 'certificate', 'secret', 'joinCode']) {
      log.info({ event: 'x', [name]: 'hush', inner: { [name]: 'hush' } }, 'Said.')
    }
    expect(lines).toHaveLength(7)
    expect(lines.join('')).not.toContain('hush')
  })
})

describe('a code', () => {
  it('is shown where it says what happened, and not where it opens something', () => {
    const lines: string[] = []
    const log = createLog({ name: 'agent', destination: { write: (line) => { lines.push(line) } } })
    const shown = ['065', 1006, 'not_authorised', 'ECONNREFUSED', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE']
    const hidden = ['eCqMUfTqmDLzKHPAmJHuKcizR0rPieznYUIq1y1yPao', 'sj1.eyJlbXMi', 'abcdef-123', 'a'.repeat(43), '1234', null, { a: 1 }]
    for (const code of [...shown, ...hidden]) log.info({ event: 'x', inner: { code } }, 'Said.')
    expect(lines.map((line) => (JSON.parse(line) as { inner: { code: unknown } }).inner.code)).toEqual([...shown, ...hidden.map(() => '[redacted]')])
  })
})

describe('waiting before another attempt', () => {
  it('grows, and stays within its limit', () => {
    const least = (attempt: number) => jitteredBackoff(attempt, { firstMs: 100, limitMs: 1000, random: () => 0 })
    const most = (attempt: number) => jitteredBackoff(attempt, { firstMs: 100, limitMs: 1000, random: () => 1 })
    expect([0, 1, 2, 3, 4, 1000].map(most)).toEqual([100, 200, 400, 800, 1000, 1000])
    expect([0, 1, 2, 3, 4, 1000].map(least)).toEqual([50, 100, 200, 400, 500, 500])
  })
})

describe('a command line', () => {
  const options = { state: { type: 'string' } } as const
  it('is read strictly', () => {
    expect(readArguments(['run', '--state', '/x'], options)).toMatchObject({ values: { state: '/x' }, positionals: ['run'] })
    expect(() => readArguments(['--stat', '/x'], options)).toThrow(UsageError)
    expect(() => readArguments(['--state'], options)).toThrow(UsageError)
  })
})
