// The agent's commands as a function of their words: enrol, run, status, pac, explain, set. What runs is in start.ts.
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { environment, readArguments, UsageError } from '../node/config.ts'
import { runUntilSignal } from '../node/life-cycle.ts'
import { createLog } from '../node/logging.ts'
import { Fault } from '../protocol/faults.ts'
import { describeLetGo, readIdentity, readLetGo } from './certificates/identity-store.ts'
import { enrolAgent } from './enrol.ts'
import { sentenceFor } from './failure.ts'
import { agentStatus, askAgent, explanation, type Question } from './local-status.ts'
import { readPicture } from './posture/pictures.ts'
import { readCommand } from './posture/read.ts'
import { findAccount } from './posture/user.ts'
import { readSetting, saveUserSaid, settings } from './posture/user-said.ts'
import { describeExplanation, describeStatus } from './print.ts'
import { startAgent } from './start.ts'

const help = `Usage: agent VERB [--state DIR]

  enrol INVITATION [--user NAME] [--tls-ca FILE]
                                     enrol this machine with the EMS that the invitation names
  run [--transparent]                report, follow the profile and serve the local proxy until SIGTERM;
                                     --transparent: programs without proxy settings too (as root on Linux)
  status [--json]                    what the running agent is doing: profile, channel, proxy, tags, refusals, troubles
  pac                                the address of the PAC file for a browser's settings; keep it to yourself
  explain SUBJECT [--json]           why a tag (by name or id) is as it is, or why a decision (by id) was taken
  set NAME=VALUE …                   what you say of yourself: ${settings.join(', ')}; an empty value takes it back

Examples:
  agent enrol sp1.eyJlbXMi…
  sudo agent enrol sp1.eyJlbXMi… --user ada --state /var/lib/sallyport
  agent run --state /var/lib/sallyport
  agent status --json
  chromium --proxy-pac-url="$(agent pac)"
  agent explain compliant
  agent explain D0123456789AB-0123456789ABCDEF --json
  agent set fullName="Ada Lovelace" email=ada@example.com avatar=/home/ada/me.png social=github:ada,mastodon:ada@example.org

The local proxy serves one user of this machine: --user (a name or a user id), else whoever enrols it.
State is kept in --state, else in SALLYPORT_STATE, else in ~/.sallyport-agent.
An additional TLS root comes from --tls-ca, else from SALLYPORT_TLS_CA.
Exit codes: 0 done, 1 failed, 2 wrong usage.
`

const options = { 'state': { type: 'string' }, 'user': { type: 'string' }, 'tls-ca': { type: 'string' }, 'json': { type: 'boolean' }, 'transparent': { type: 'boolean' }, 'help': { type: 'boolean', short: 'h' } } as const
/** Options that a verb takes beside --state and --help. */
const optionsOf: Record<string, readonly string[]> = { enrol: ['user', 'tls-ca'], run: ['transparent'], status: ['json'], pac: [], explain: ['json'], set: [] }
const verbs = Object.keys(optionsOf).join(', ')

/** Where a command's answer goes, and what it says when it fails; a line each time. */
export interface Printer { out(text: string): void; err(text: string): void }
const now = Date.now

/** Asks the running agent; where none runs, says why not and how to come there. */
async function ask(directory: string, question: Question): Promise<unknown> {
  const told = await askAgent(directory, question)
  if (told !== null) return told
  const [letGo, identity] = [await readLetGo(directory), await readIdentity(directory)]
  if (identity !== null && letGo?.uid !== identity.uid) throw new Fault('not_found', `No agent runs with the state in ${directory}. Start it: agent run --state ${directory}`)
  throw new Fault('not_found', `${letGo === null ? `Nothing is enrolled with the state in ${directory}.` : describeLetGo(letGo)} Ask an administrator for an invitation and run: agent enrol INVITATION --state ${directory}`)
}

async function userId(wanted: string | undefined): Promise<number> {
  if (wanted === undefined) return process.getuid?.() ?? 0
  const account = await findAccount('/', /^\d+$/.test(wanted) ? Number(wanted) : wanted, readCommand)
  if (account === null) throw new UsageError(`--user: this machine has no user ${wanted}.`)
  return account.uid
}

async function enrol(invitation: string, directory: string, given: { user?: string; tlsCa?: string }): Promise<string> {
  const ownerUid = await userId(given.user)
  const { uid, ems } = await enrolAgent({
    invitation, stateDirectory: directory, tlsCa: given.tlsCa === undefined ? [] : [await readFile(given.tlsCa, 'utf8')], ownerUid, now, log: createLog({ name: 'agent', level: 'error' }),
  })
  return `Enrolled with ${ems} as ${uid}. The local proxy will serve user id ${ownerUid} only${ownerUid === 0 && given.user === undefined ? ' (root; --user names another)' : ''}.\nNow start the agent: agent run --state ${directory}`
}

async function run(directory: string, transparent: boolean): Promise<number> {
  const log = createLog({ name: 'agent', level: environment.logLevel ?? 'info' })
  const { promise: ended, resolve: finish } = Promise.withResolvers<number>()
  const signalled = runUntilSignal(async () => {
    const agent = await startAgent({ stateDirectory: directory, transparent, log, now })
    // Let go by the EMS: there is nothing left to run. A service manager must not start it again and again, so that is success.
    agent.ended.then(() => finish(0), () => finish(1))
    return agent
  }, log)
  return await Promise.race([signalled, ended])
}

async function set(directory: string, words: readonly string[]): Promise<string> {
  if (words.length === 0) throw new UsageError(`set needs NAME=VALUE; names are ${settings.join(', ')}.`)
  const said = words.map(readSetting)
  const avatar = said.find(({ member, value }) => member === 'avatarFile' && value !== null)
  const identity = await readIdentity(directory)
  if (avatar !== undefined && await readPicture(String(avatar.value), identity?.ownerUid ?? process.getuid?.() ?? 0) === null) {
    throw new UsageError(`avatar: ${String(avatar.value)} is not a PNG or JPEG file of at most 48 KiB that belongs to the enrolled user.`)
  }
  await saveUserSaid(directory, said)
  return 'Kept. A running agent reports it at once, as far as the profile lets you say it.'
}

async function perform(argv: readonly string[], print: Printer['out']): Promise<number> {
  const { values, positionals: [verb, ...words] } = readArguments([...argv], options)
  if (values.help === true) {
    print(help)
    return 0
  }
  if (verb === undefined || !Object.hasOwn(optionsOf, verb)) throw new UsageError(verb === undefined ? `Say what to do: ${verbs}.` : `${verb} is no command; there are ${verbs}.`)
  const foreign = Object.keys(values).find((name) => name !== 'state' && !optionsOf[verb]?.includes(name))
  if (foreign !== undefined) throw new UsageError(`${verb} takes no --${foreign}.`)
  const directory = resolve(values.state ?? environment.stateDirectory ?? join(homedir(), '.sallyport-agent'))
  const [word] = words
  if (verb !== 'set' && words.length > (verb === 'enrol' || verb === 'explain' ? 1 : 0)) throw new UsageError(`"${words.at(-1) ?? ''}" is one word too many.`)
  const show = (told: unknown, sentences: string) => print(values.json === true ? JSON.stringify(told) : sentences)
  switch (verb) {
    case 'enrol':
      if (word === undefined) throw new UsageError('enrol needs the invitation; an administrator makes one.')
      print(await enrol(word, directory, { user: values.user, tlsCa: values['tls-ca'] ?? environment.tlsCa }))
      return 0
    case 'run':
      return await run(directory, values.transparent === true)
    case 'status': {
      const told = agentStatus.parse(await ask(directory, { ask: 'status' }))
      show(told, describeStatus(told, now()))
      return 0
    }
    case 'pac': {
      const { pacUrl, tunnel } = agentStatus.parse(await ask(directory, { ask: 'status' }))
      if (pacUrl === null) throw new Fault('not_found', `There is no PAC file now: the local proxy is not running${tunnel.running ? '' : ` (${tunnel.reason})`}.`)
      print(pacUrl)
      return 0
    }
    case 'explain': {
      if (word === undefined) throw new UsageError('explain needs a tag, or the id of a decision.')
      const told = explanation.parse(await ask(directory, { ask: 'explain', subject: word }))
      show(told, describeExplanation(told, now()))
      return 0
    }
    default:
      print(await set(directory, words))
      return 0
  }
}

/** Performs one command. @returns the exit code: 0 done, 1 failed, 2 wrong usage */
export async function agentCommand(argv: readonly string[], print: Printer): Promise<number> {
  try {
    return await perform(argv, print.out)
  } catch (cause) {
    print.err(cause instanceof UsageError ? `${cause.message}\nagent --help says how it is used.` : sentenceFor(cause))
    return cause instanceof UsageError ? 2 : 1
  }
}
