// Help, from the table of commands.
import type { Command, Option } from './command.ts'
import { commands } from './commands.ts'

const connection = `Which EMS, the first of these that is given:
  --local [DIR]          a local emulation (npm start) kept in DIR, .sallyport unless said: address, token and TLS root
  --ems ORIGIN           like https://ems.example.com; else SALLYPORT_EMS
  .sallyport             in the current directory, when nothing else is given
With --ems:
  --token-file FILE      the administrator's token; else SALLYPORT_TOKEN. Never on the command line, where others can see it
  --tls-ca FILE          a TLS root (PEM) beside the system's; else SALLYPORT_TLS_CA`

export const optionText = (name: string, { takes }: Pick<Option, 'takes'>): string => (takes === undefined ? `--${name}` : `--${name} ${takes}`)

const usage = ({ name, words, options }: Command): string => [
  `cli ${name}`,
  ...Object.entries(words).map(([word, { schema }]) => (schema.safeParse(undefined).success ? `[${word}]` : word)),
  ...Object.entries(options).map(([option, { takes, schema }]) => {
    const written = optionText(option, { takes })
    return schema.safeParse(undefined).success ? `[${written}]` : written
  }),
].join(' ')

const list = (rows: readonly (readonly [string, string])[]): string => {
  const width = Math.max(...rows.map(([name]) => name.length))
  return rows.map(([name, says]) => `  ${name.padEnd(width)}  ${says}`).join('\n')
}

function commandHelp(command: Command): string {
  const rows = [...Object.entries(command.words).map(([name, { says }]) => [name, says] as const), ...Object.entries(command.options).map(([name, { takes, says }]) => [optionText(name, { takes }), says] as const)]
  return [
    `Usage: ${usage(command)} [--json]`, command.summary, ...(command.note === undefined ? [] : [command.note]), ...(rows.length === 0 ? [] : [list(rows)]),
    `Examples:\n${command.examples.map((example) => `  cli ${example}`).join('\n')}`,
    'Which EMS is asked, and with which token: cli --help',
  ].join('\n\n')
}

const overview = (): string => [
  'Usage: cli COMMAND [--json]        (npm run --silent cli -- COMMAND, or node cli/main.ts COMMAND)',
  list(commands.map((command) => [command.name, command.summary])),
  connection,
  '--json prints one JSON value; lists print one JSON line an item. cli COMMAND --help says more of a command.\nExit codes: 0 done, 1 failed, 2 wrong usage.',
].join('\n\n')

/** Help for a command, for what begins like one, or for everything. */
export function helpFor(typed: readonly string[]): string {
  const exact = commands.find(({ name }) => name === typed.join(' '))
  if (exact !== undefined) return commandHelp(exact)
  const ofNoun = commands.filter(({ name }) => name.split(' ')[0] === typed[0])
  return ofNoun.length === 0 ? overview() : list(ofNoun.map((command) => [command.name, command.summary]))
}
