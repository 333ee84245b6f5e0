// The agent's command line: enrol, run, status, explain, set. What runs is in start.ts.
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { environment, readArguments, UsageError } from '../node/config.ts'
import { runUntilSignal } from '../node/life-cycle.ts'
import { createLog } from '../node/logging.ts'
import { Fault } from '../protocol/faults.ts'
import { enrolAgent } from './enrol.ts'
import { agentStatus, askAgent, explanation, type Question } from './local-status.ts'
import { readSetting, saveUserSaid, settings } from './posture/user.ts'
import { describeExplanation, describeStatus } from './print.ts'
import { startAgent } from './start.ts'

const help = `Usage: agent VERB [--state DIR]

  enrol INVITATION [--tls-ca FILE]   enrol this machine with the EMS that the invitation names
  run                                report, follow the profile and serve the local proxy until SIGTERM
  status [--json]                    what the running agent is doing: profile, channel, proxy, tags, refusals
  explain SUBJECT [--json]           why a tag (by name or id) is as it is, or why a decision (by id) was taken
  set NAME=VALUE …                   what you say of yourself: ${settings.join(', ')}; an empty value takes it back

Examples:
  agent enrol sp1.eyJlbXMi…
  agent run --state /var/lib/sallyport
  agent explain compliant
  agent explain D0123456789AB-0123456789ABCDEF --json
  agent set fullName="Ada Lovelace" email=ada@example.com avatar=/home/ada/me.png social=github:ada

State is kept in --state, else in SALLYPORT_STATE, else in ~/.sallyport-agent.
An additional TLS root comes from --tls-ca, else from SALLYPORT_TLS_CA.
Exit codes: 0 done, 1 failed, 2 wrong usage.
`

const print = (text: string) => { process.stdout.write(`${text}\n`) }
const now = Date.now

async function ask(directory: string, question: Question): Promise<unknown> {
  const told = await askAgent(directory, question)
  if (told === null) throw new Fault('not_found', `No agent runs with the state in ${directory}. Start it: agent run --state ${directory}`)
  return told
}

async function enrol(invitation: string, directory: string, tlsCa: string | undefined): Promise<void> {
  const { uid, ems } = await enrolAgent({
    invitation, stateDirectory: directory, tlsCa: tlsCa === undefined ? [] : [await readFile(tlsCa, 'utf8')], ownerUid: process.getuid?.() ?? 0, now, log: createLog({ name: 'agent', level: 'error' }),
  })
  print(`Enrolled with ${ems} as ${uid}. Now start the agent: agent run --state ${directory}`)
}

async function run(directory: string): Promise<number> {
  const log = createLog({ name: 'agent', level: environment.logLevel ?? 'info' })
  const { promise: ended, resolve: finish } = Promise.withResolvers<number>()
  const signalled = runUntilSignal(async () => {
    const agent = await startAgent({ stateDirectory: directory, log, now })
    // Let go by the EMS: there is nothing left to run. A service manager must not start it again and again, so that is success.
    agent.ended.then(() => finish(0), () => finish(1))
    return agent
  }, log)
  return await Promise.race([signalled, ended])
}

async function main(argv: string[]): Promise<number> {
  const { values, positionals: [verb, ...words] } = readArguments(argv, { 'state': { type: 'string' }, 'tls-ca': { type: 'string' }, 'json': { type: 'boolean' }, 'help': { type: 'boolean', short: 'h' } })
  if (values.help === true) {
    print(help)
    return 0
  }
  const directory = resolve(values.state ?? environment.stateDirectory ?? join(homedir(), '.sallyport-agent'))
  const [word] = words
  if (verb !== 'set' && words.length > (verb === 'enrol' || verb === 'explain' ? 1 : 0)) throw new UsageError(`"${words.at(-1) ?? ''}" is one word too many.`)
  switch (verb) {
    case 'enrol':
      if (word === undefined) throw new UsageError('enrol needs the invitation; an administrator makes one.')
      await enrol(word, directory, values['tls-ca'] ?? environment.tlsCa)
      return 0
    case 'run':
      return await run(directory)
    case 'status': {
      const told = agentStatus.parse(await ask(directory, { ask: 'status' }))
      print(values.json === true ? JSON.stringify(told) : describeStatus(told, now()))
      return 0
    }
    case 'explain': {
      if (word === undefined) throw new UsageError('explain needs a tag, or the id of a decision.')
      const told = explanation.parse(await ask(directory, { ask: 'explain', subject: word }))
      print(values.json === true ? JSON.stringify(told) : describeExplanation(told, now()))
      return 0
    }
    case 'set': {
      if (words.length === 0) throw new UsageError(`set needs NAME=VALUE; names are ${settings.join(', ')}.`)
      await saveUserSaid(directory, Object.assign({}, ...words.map(readSetting)))
      print('Kept. A running agent reports it at once, as far as the profile lets you say it.')
      return 0
    }
    default:
      throw new UsageError(verb === undefined ? 'Say what to do: enrol, run, status, explain or set.' : `${verb} is no command; there are enrol, run, status, explain and set.`)
  }
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (cause) {
  process.stderr.write(cause instanceof UsageError ? `${cause.message}\nagent --help says how it is used.\n` : `${cause instanceof Error ? cause.message : String(cause)}\n`)
  process.exitCode = cause instanceof UsageError ? 2 : 1
}
