// The table of commands: whole, consistent, and what help says of it is true.
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { commands } from '../../cli/commands.ts'
import { chooseCommand, readTyped } from '../../cli/parse.ts'
import { operations } from '../../protocol/operations/all.ts'
import * as administration from '../../protocol/operations/admin.ts'
import * as advisories from '../../protocol/operations/advisories.ts'
import * as fabric from '../../protocol/operations/fabric.ts'
import * as packs from '../../protocol/operations/packs.ts'
import * as signIn from '../../protocol/operations/sign-in.ts'
import * as signals from '../../protocol/operations/signals.ts'
import * as tags from '../../protocol/operations/tags.ts'
import { run, split } from './command-under-test.ts'

const room = fileURLToPath(new URL('../../cli/', import.meta.url))
const sources = readdirSync(room).map((file) => readFileSync(join(room, file), 'utf8')).join('\n')
/** Operations that have no command, and why. */
const without: Record<string, string> = { 'fabric-update-auth': 'it authorises without a fingerprint; gateways authorise compares one' }

describe('the table of commands', () => {
  it('has a command for every operation of administrators', () => {
    const named = Object.entries({ ...fabric, ...administration, ...signals, ...tags, ...packs, ...advisories, ...signIn }).flatMap(([name, operation]) => ('id' in operation ? [[operation.id, name] as const] : []))
    const missing = operations.filter(({ caller, id }) => caller === 'administrator' && !(id in without))
      .filter(({ id }) => !new RegExp(`call\\(${named.find(([known]) => known === id)?.[1] ?? id}\\b`).test(sources)).map(({ id }) => id)
    expect(missing).toEqual([])
  })

  it('names each command once, and gives an option one meaning', () => {
    expect(new Set(commands.map(({ name }) => name)).size).toBe(commands.length)
    const kinds = new Map<string, boolean>()
    for (const { options } of commands) {
      for (const [name, { takes }] of Object.entries(options)) {
        expect(kinds.get(name) ?? (takes === undefined), `--${name}`).toBe(takes === undefined)
        kinds.set(name, takes === undefined)
      }
    }
  })

  for (const command of commands) {
    it(`${command.name}: help says how it is used, and its examples are right`, async () => {
      const { code, out, err } = await run([...command.name.split(' '), '--help'])
      expect([code, err]).toEqual([0, ''])
      for (const text of [command.summary, 'Usage: cli', 'Examples:', ...Object.keys(command.words), ...Object.keys(command.options).map((name) => `--${name}`)]) expect(out).toContain(text)
      for (const example of command.examples) {
        const typed = chooseCommand(split(example), '/nonexistent')
        if ('help' in typed) throw new Error(`${example} is help`)
        expect(typed.command.name).toBe(command.name)
        expect(() => readTyped(typed, '/nonexistent')).not.toThrow()
      }
    })
  }

  it('is listed whole by --help, by a noun its own part', async () => {
    const all = await run(['--help'])
    for (const { name, summary } of commands) expect(all.out).toMatch(new RegExp(`^  ${name} +${summary.replaceAll(/[.?]/g, '\\$&')}$`, 'm'))
    const { code, out } = await run(['help', 'gateways'])
    expect([code, out.includes('gateways join-code create'), out.includes('endpoints list')]).toEqual([0, true, false])
  })
})
