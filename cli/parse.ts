// From the command line to one command with what it was given. Everything wrong here is wrong usage.
import { resolve } from 'node:path'
import type { z } from 'zod'
import { readArguments, UsageError } from '../node/config.ts'
import type { Command, Option } from './command.ts'
import { commands } from './commands.ts'
import { holdsEmulation, type Where } from './connection.ts'
import { helpFor, optionText } from './help.ts'

type Values = Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>
/** A command and what was typed with it, not read yet: whatever is wrong with that is said with the command's name. */
export interface Typed { readonly command: Command; readonly words: readonly string[]; readonly values: Values; readonly json: boolean; readonly localHint: string }
/** Read by the command's own schemas. */
export interface Read { readonly given: Parameters<Command['run']>[0]; readonly where: Where }

const LOCAL_DIRECTORY = '.sallyport'
const text = { type: 'string', multiple: true } as const
const common = { 'json': { type: 'boolean' }, 'help': { type: 'boolean', short: 'h' }, 'ems': text, 'token-file': text, 'tls-ca': text, 'local': text } as const
const every = {
  ...Object.fromEntries(commands.flatMap(({ options }) => Object.entries(options)).map(([name, { takes }]) => [name, takes === undefined ? { type: 'boolean' } as const : text])),
  ...common,
}
/** Finds the command, or the help that is asked for. @param directory a relative directory after `--local` is meant from here */
export function chooseCommand(argv: readonly string[], directory: string): Typed | { readonly help: string } {
  const parsed = readArguments(withLocal(argv, directory), every)
  const [values, positionals]: [Values, string[]] = [parsed.values, parsed.positionals]
  const typed = positionals[0] === 'help' ? positionals.slice(1) : positionals
  const command = commands.filter(({ name }) => name.split(' ').every((word, at) => typed[at] === word)).sort((a, b) => b.name.length - a.name.length)[0]
  if (values.help === true || positionals[0] === 'help') return { help: helpFor(command === undefined ? typed : [command.name]) }
  const localHint = (words: readonly string[]) => {
    const meant = argv[argv.indexOf('--local') + 1]
    return argv.includes('--local') && meant !== undefined && words.includes(meant) ? ` (After --local stands a directory with secrets.json in it; ${meant} has none.)` : ''
  }
  if (command === undefined) throw new UsageError(`${typed.length === 0 ? 'Say what to do.' : `"${typed.join(' ')}" is no command.`}${localHint(typed)}\n${helpFor(typed)}`)
  const words = typed.slice(command.name.split(' ').length)
  return { command, words, values, json: values.json === true, localHint: localHint(words) }
}

/** @param directory a relative directory of `--local` is meant from here */
export function readTyped({ command, words, values, localHint }: Typed, directory: string): Read {
  const foreign = Object.keys(values).find((name) => !(name in command.options) && !(name in common))
  if (foreign !== undefined) throw new UsageError(`${command.name} has no option --${foreign}.`)
  const names = Object.entries(command.words)
  if (words.length > names.length) throw new UsageError(`"${words[names.length] ?? ''}" is one word too many.${localHint}`)
  return {
    given: {
      words: Object.fromEntries(names.map(([name, { schema }], at) => [name, readValue(command, name, name, schema, words[at])])),
      options: Object.fromEntries(Object.entries(command.options).map(([name, option]) => [name, readValue(command, `--${name}`, optionText(name, option), option.schema, oneOf(name, values[name], option))])),
    },
    where: readWhere(values, directory),
  }
}

function readValue({ name }: Command, label: string, written: string, schema: z.ZodType, value: string | boolean | undefined): unknown {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  throw new UsageError(value === undefined ? `${name} needs ${written}.` : `${label}: ${parsed.error.issues[0]?.message ?? 'is not acceptable'}, not "${value}".`)
}

/** Given once; a list may be given several times. */
function oneOf(name: string, value: Values[string], option: Pick<Option, 'list'>): string | boolean | undefined {
  if (!Array.isArray(value)) return value
  if (value.length > 1 && option.list !== true) throw new UsageError(`--${name} is given twice.`)
  return value.join(',')
}

function readWhere(values: Values, directory: string): Where {
  const [ems, tokenFile, tlsCa, local] = ['ems', 'token-file', 'tls-ca', 'local'].map((name) => oneOf(name, values[name], {})?.toString())
  if (local !== undefined && (ems ?? tokenFile ?? tlsCa) !== undefined) throw new UsageError('--local says address, token and TLS root; --ems, --token-file and --tls-ca do not stand beside it.')
  return { ems, tokenFile, tlsCa, local: local === undefined ? undefined : resolve(directory, local === '' ? LOCAL_DIRECTORY : local) }
}

const TOKEN_REFUSED = 'A token is not taken on the command line: everybody on this machine sees it there while the command runs, and the shell keeps it in its history. Put it into SALLYPORT_TOKEN, or into a file and give --token-file FILE.'

/** `--local` may stand alone: the word after it is its directory only where an emulation is kept there. */
function withLocal(argv: readonly string[], directory: string): string[] {
  const out: string[] = []
  for (let at = 0; at < argv.length; at++) {
    const [word = '', next] = [argv[at], argv[at + 1]]
    if (word === '--') return [...out, ...argv.slice(at)]
    if (/^--token(=|$)/.test(word)) throw new UsageError(TOKEN_REFUSED)
    const takesNext = word === '--local' && next !== undefined && holdsEmulation(resolve(directory, next))
    out.push(word === '--local' ? `--local=${takesNext ? next : ''}` : word)
    if (takesNext) at++
  }
  return out
}
