// The agent's commands as a function of their words: which there are, what each takes, and how it ends. What each does is in commands/, loaded when it is called.
import { homedir } from 'node:os'
import { resolve } from 'node:path'
import { environment, readArguments, UsageError } from '../node/config.ts'
import { options, type Perform, type Printer } from './commands/verb.ts'
import { sentenceFor } from './failure.ts'
import { statePlace } from './state-place.ts'

interface Verb {
  /** Options that it takes beside --state and --help. */
  readonly takes: readonly (keyof typeof options)[]
  /** How many words may follow it. */
  readonly words: number
  /** It asks a running agent. */
  readonly asks: boolean
  readonly load: () => Promise<{ readonly perform: Perform }>
}
const verbs: Record<string, Verb> = {
  'enrol': { takes: ['user', 'tls-ca'], words: 1, asks: false, load: () => import('./commands/enrol.ts') },
  'run': { takes: ['transparent'], words: 0, asks: false, load: () => import('./commands/run.ts') },
  'status': { takes: ['json'], words: 0, asks: true, load: () => import('./commands/status.ts') },
  'pac': { takes: [], words: 0, asks: true, load: () => import('./commands/pac.ts') },
  'explain': { takes: ['json'], words: 1, asks: true, load: () => import('./commands/explain.ts') },
  'set': { takes: [], words: Infinity, asks: false, load: () => import('./commands/set.ts') },
  'sign-in': { takes: ['provider', 'no-browser', 'json'], words: 0, asks: true, load: () => import('./commands/sign-in.ts') },
  'sign-out': { takes: ['json'], words: 0, asks: true, load: () => import('./commands/sign-out.ts') },
  'ssh': { takes: [], words: Infinity, asks: true, load: () => import('./commands/ssh.ts') },
  'ssh-config': { takes: [], words: Infinity, asks: true, load: () => import('./commands/ssh-config.ts') },
  'ssh-certificate': { takes: ['match', 'json'], words: 2, asks: true, load: () => import('./commands/ssh-certificate.ts') },
  'connect': { takes: [], words: 2, asks: true, load: () => import('./commands/connect.ts') },
}
const names = Object.keys(verbs).join(', ')

async function perform(argv: readonly string[], print: Printer): Promise<number> {
  const { values, positionals: [name, ...words] } = readArguments([...argv], options)
  if (values.help === true) {
    print.out((await import('./help.ts')).help)
    return 0
  }
  const verb = name !== undefined && Object.hasOwn(verbs, name) ? verbs[name] : undefined
  if (name === undefined || verb === undefined) throw new UsageError(name === undefined ? `Say what to do: ${names}.` : `${name} is no command; there are ${names}.`)
  const foreign = Object.keys(values).find((given) => given !== 'state' && !verb.takes.some((taken) => taken === given))
  if (foreign !== undefined) throw new UsageError(`${name} takes no --${foreign}.`)
  if (words.length > verb.words) throw new UsageError(`"${words.at(-1) ?? ''}" is one word too many.`)
  const directory = resolve(values.state ?? environment.stateDirectory ?? statePlace(verb.asks, homedir()))
  return await (await verb.load()).perform({ words, values, directory, print })
}

/** Performs one command. @returns the exit code: 0 done, 1 failed, 2 wrong usage */
export async function agentCommand(argv: readonly string[], print: Printer): Promise<number> {
  try {
    return await perform(argv, print)
  } catch (cause) {
    print.err(cause instanceof UsageError ? `${cause.message}\nagent --help says how it is used.` : sentenceFor(cause))
    return cause instanceof UsageError ? 2 : 1
  }
}
