// What reaches a terminal: tables as pages come in, JSON that any parser takes, and nothing in data that the terminal obeys.
import { PassThrough, Writable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { toYaml } from '../../cli/definitions.ts'
import { harmless, harmlessJson } from '../../cli/harmless.ts'
import { createPrinter } from '../../cli/printer.ts'
import { parse } from 'yaml'

// A title change, a CSI in one byte, a right-to-left override, a forged line, a zero-width space, a lone surrogate.
const hostile = 'a\u001b]0;owned\u0007b\u009b2Jc\u202ed\r\ne\u200bf\ud800g'
const obeyed = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u

function printer(json: boolean) {
  const written: string[] = []
  const out = new Writable({ write(chunk: Buffer, _, done) { written.push(chunk.toString()); done() } })
  return { written, ...createPrinter({ out, err: out, in: new PassThrough(), now: Date.now, directory: '/', environment: {} }, json) }
}
async function* pages(...given: string[][]) {
  for (const page of given) yield await Promise.resolve(page)
}
const columns = [{ title: 'NAME', cell: (name: string) => name }, { title: 'LENGTH', cell: ({ length }: string) => String(length) }]

describe('text from elsewhere', () => {
  it('is escaped in tables, lines and sentences, one line each', async () => {
    const { written, list, one, say } = printer(false)
    await list(pages([hostile]), columns, 'none')
    await one(null, () => [hostile])
    await say(hostile)
    const lines = written.join('').split('\n')
    expect(lines).toHaveLength(5)
    for (const line of lines) expect(line).not.toMatch(obeyed)
    expect(lines[1]).toContain('a\\u001b]0;owned\\u0007b\\u009b2Jc\\u202ed\\u000d\\u000ae\\u200bf\\ud800g')
  })
  it('means the same in JSON and YAML, and is harmless there too', () => {
    expect(harmlessJson({ [hostile]: hostile })).not.toMatch(obeyed)
    expect(JSON.parse(harmlessJson({ [hostile]: hostile }))).toEqual({ [hostile]: hostile })
    const value = { plain: 'as it is', list: [hostile, 'x: y', '# no comment', '- no list', '12', 'yes', ''], [hostile]: 1 }
    for (const line of toYaml(value)) expect(line).not.toMatch(obeyed)
    expect(parse(toYaml(value).join('\n'))).toEqual(value)
  })
  it('stays as it is where it is harmless', () => {
    expect(harmless('Zoë’s laptop – 東京 ✓ DOMAIN\\ada')).toBe('Zoë’s laptop – 東京 ✓ DOMAIN\\ada')
  })
})

describe('a list', () => {
  it('has one head, and columns as wide as the first page asks for', async () => {
    const { written, list } = printer(false)
    await list(pages(['abc', 'd'], [], ['longer than before', 'e']), columns, 'none')
    expect(written).toEqual(['NAME  LENGTH\nabc   3\nd     1\n', 'longer than before  18\ne     1\n'])
  })
  it('says so when it is empty; to machines it says nothing', async () => {
    const [people, machines] = [printer(false), printer(true)]
    await people.list(pages([]), columns, 'There is none.')
    await machines.list(pages([]), columns, 'There is none.')
    expect([people.written, machines.written]).toEqual([['There is none.\n'], []])
  })
})
