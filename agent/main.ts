// The agent's command line.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { homedir } from 'node:os'
import { environment, readArguments, UsageError } from '../node/config.ts'
import { createControlClient } from '../node/control-client.ts'
import { readJson } from '../node/key-store.ts'
import { runUntilSignal } from '../node/life-cycle.ts'
import { createLog } from '../node/logging.ts'
import { Fault } from '../protocol/faults.ts'
import { ownTags } from '../protocol/operations/endpoint.ts'
import { openIdentity } from './certificates/agent-identity.ts'
import { enrolDevice } from './enrol.ts'
import { runAgent } from './run.ts'
import { enrolment, filesIn } from './state.ts'

const help = `Usage: agent VERB [--state DIR]

  enrol INVITATION [--tls-ca FILE]   enrol this device with the EMS that the invitation names
  run                                report, follow the profile and serve the local proxy until SIGTERM
  status [--json]                    who this device is, and its tags with what was seen and wanted

Examples:
  agent enrol sp1.eyJlbXMi…
  agent run --state /var/lib/sallyport
  agent status --json

State is kept in --state, else in SALLYPORT_STATE, else in ~/.sallyport-agent.
Exit codes: 0 done, 1 failed, 2 wrong usage.
`

async function main(argv: string[]): Promise<number> {
  const { values, positionals: [verb, argument, ...rest] } = readArguments(argv, { 'state': { type: 'string' }, 'tls-ca': { type: 'string' }, 'json': { type: 'boolean' }, 'help': { type: 'boolean', short: 'h' } })
  if (values.help === true) {
    process.stdout.write(help)
    return 0
  }
  const directory = values.state ?? environment.stateDirectory ?? join(homedir(), '.sallyport-agent')
  const log = createLog({ name: 'agent', level: environment.logLevel ?? (verb === 'run' ? 'info' : 'error') })
  const now = Date.now
  if (rest.length > 0) throw new UsageError(`"${rest[0] ?? ''}" is not expected.`)
  if (verb === 'enrol' && argument !== undefined) {
    const tlsCa = values['tls-ca'] ?? environment.tlsCa
    const made = await enrolDevice({ invitation: argument, directory, tlsCa: tlsCa === undefined ? [] : [await readFile(tlsCa, 'utf8')], ownerUid: process.getuid?.() ?? -1, now, log })
    process.stdout.write(`Enrolled with ${made.ems} as ${made.uid}. Now start the agent: agent run\n`)
    return 0
  }
  if (verb === 'run' && argument === undefined) return await runUntilSignal(() => runAgent({ directory, now, log }), log)
  if (verb === 'status' && argument === undefined) return await status(directory, values.json === true)
  throw new UsageError(verb === undefined ? 'Say what to do.' : `"agent ${argv.join(' ')}" is not understood.`)

  async function status(state: string, json: boolean): Promise<number> {
    const kept = await readJson(filesIn(state).enrolment, enrolment)
    if (kept === null) throw new Fault('not_found', 'This device is not enrolled: run `agent enrol INVITATION` first.')
    const identity = await openIdentity(state, kept)
    const client = createControlClient({ ems: kept.ems, identity: () => identity, tlsCa: kept.tlsCa, now, log })
    try {
      const { tags } = await client.call(ownTags, {})
      if (json) process.stdout.write(`${JSON.stringify({ uid: kept.uid, ems: kept.ems, tags })}\n`)
      else {
        process.stdout.write(`Device ${kept.uid}, managed by ${kept.ems}\n`)
        for (const { tag, state: has, ruleSets } of tags) {
          process.stdout.write(`\n${tag}: ${has}\n`)
          for (const { conditions } of ruleSets) for (const each of conditions) process.stdout.write(`  ${each.value === 'true' ? '✓' : '✗'} wanted: ${each.wanted}; seen: ${each.seen}${each.value === 'true' ? '' : `. ${each.mend}`}\n`)
        }
      }
      return 0
    } finally {
      await client.close()
    }
  }
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (cause) {
  process.stderr.write(cause instanceof UsageError ? `${cause.message}\n\n${help}` : `${cause instanceof Error ? cause.message : String(cause)}\n`)
  process.exitCode = cause instanceof UsageError ? 2 : 1
}
