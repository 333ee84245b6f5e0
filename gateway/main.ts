// The gateway's command: run, check, schema, status, ssh-ca, firewall, lists. What runs is in start.ts.
import { readFile } from 'node:fs/promises'
import { policyFileSchema } from '../domain/access/policy-file.ts'
import { UsageError } from '../node/config.ts'
import { endProcess } from '../node/end-process.ts'
import { runUntilSignal } from '../node/life-cycle.ts'
import { createLog } from '../node/logging.ts'
import { pendingText } from './fabric/join.ts'
import { readCommand, usage, type Command } from './config.ts'
import { runFirewallCommand } from './firewall/command-line.ts'
import { checkSources, describeSources } from './firewall/sources/check-sources.ts'
import { checkPolicies, readStatus } from './inspect.ts'
import { runSshCommand } from './ssh/command-line.ts'
import { startGateway } from './start.ts'

export { startGateway } from './start.ts'

const print = (text: string) => process.stdout.write(`${text}\n`)
const tell = (text: string) => process.stderr.write(`${text}\n`)
const now = () => Date.now()

type Run = Extract<Command, { verb: 'run' }>

async function run(command: Run): Promise<number> {
  const log = createLog({ name: 'gateway', level: command.logLevel })
  const { stateDirectory, policiesFile, listen, metricsPort, drainMs, workers, poll, traces, logLevel, displayName, pinned, firewall } = command
  const joinCode = command.joinCodeFile === null ? command.joinCode : await readFile(command.joinCodeFile, 'utf8')
  const tlsCa = command.tlsCaFile === null ? [] : [await readFile(command.tlsCaFile, 'utf8')]
  return await runUntilSignal((signal) => startGateway({
    stateDirectory, policiesFile, listen, metricsPort, drainMs, workers, poll, traces, logLevel, displayName, joinCode, pinned, firewall, tlsCa, now, log, signal,
    onEvent(event) {
      if (event.event === 'pending') tell(pendingText(event))
    },
  }), log)
}

async function check({ file, stateDirectory, sightsFile, json }: Extract<Command, { verb: 'check' }>): Promise<number> {
  const found = await checkPolicies(file, stateDirectory, now())
  const sights = sightsFile === null ? null : await checkSources(sightsFile, now())
  if (json) print(JSON.stringify(sights === null ? found : { ...found, sights }))
  else {
    for (const sentence of [...found.errors, ...found.warnings.map((warning) => `warning: ${warning}`)]) tell(sentence)
    if (found.ok) tell(`${file}: ${found.services} services, no mistakes.`)
    for (const sentence of describeSources(sights)) tell(sentence)
  }
  return found.ok && sights?.ok !== false ? 0 : 1
}

async function status({ stateDirectory, json }: Extract<Command, { verb: 'status' }>): Promise<number> {
  const found = await readStatus(stateDirectory, now())
  const seconds = (ms: number | null) => (ms === null ? 'never' : `${Math.round(ms / 1000)} s ago`)
  if (json) print(JSON.stringify(found))
  else if (!found.joined) print(`This gateway has not joined a fabric yet.${found.fingerprint === null ? '' : ` Once it is authorised it does; what an administrator compares:\n  ${found.fingerprint}`}`)
  else {
    print([
      `serial       ${found.serial ?? ''}`, `EMS          ${found.ems ?? ''}`, `certificate  until ${found.certificateUntil === null ? 'unknown' : new Date(found.certificateUntil).toISOString()}`,
      `snapshot     ${found.endpoints ?? 0} endpoints, current ${seconds(found.snapshotAge)}${found.heardBy === null ? '' : found.heardBy === 'socket' ? ', told by websocket' : ', by asking: no websocket could be had'}`,
    ].join('\n'))
  }
  return 0
}

/** Runs one command. @returns the exit code: 0 done, 1 failed, 2 wrong usage */
export async function main(argv: string[]): Promise<number> {
  try {
    const command = readCommand(argv)
    switch (command.verb) {
      case 'help':
        print(usage)
        return 0
      case 'schema':
        print(JSON.stringify(policyFileSchema(), null, 2))
        return 0
      case 'run':
        return await run(command)
      case 'check':
        return await check(command)
      case 'status':
        return await status(command)
      case 'ssh-ca':
        return await runSshCommand(command, { print, tell, now })
      case 'firewall-template':
      case 'firewall-schema':
      case 'firewall-check':
      case 'list-token':
        return await runFirewallCommand(command, { print, tell, now })
    }
  } catch (cause) {
    tell(cause instanceof Error ? cause.message : String(cause))
    if (cause instanceof UsageError) tell('gateway --help says how it is used.')
    return cause instanceof UsageError ? 2 : 1
  }
}

if (import.meta.main) await endProcess(await main(process.argv.slice(2)))
