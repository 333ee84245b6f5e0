// `npm start`: everything on this machine, and the loop on its real posture. Data is kept in .sallyport/; Ctrl-C ends it and loses nothing.
import { fileURLToPath } from 'node:url'
import { resolve } from 'node:path'
import { readArguments, UsageError } from '../node/config.ts'
import { endProcess } from '../node/end-process.ts'
import { readPrivateFile } from '../node/key-store.ts'
import { runUntilSignal } from '../node/life-cycle.ts'
import { runLoop } from './loop.ts'
import { startStage, type Stage } from './stage.ts'
import { printSteps, type Steps } from './steps.ts'
import { INTRANET, isGenerated, LEDGER, TAG } from './configuration.ts'

const help = `Usage: npm start -- [--once] [--json] [--port N] [--directory DIR]

Starts EMS (real Worker, D1 and objects on local emulation), gateway, two protected services and an agent that enrols this machine,
then runs the loop: allowed, changed on the machine, cut, refused and explained, mended, allowed again. Stays up until Ctrl-C.

  --once           end after the loop; exit code 0, or 1 if a step failed
  --json           one JSON line per step
  --port N         where the EMS listens; the first start picks a free port and keeps it
  --directory DIR  keep data there; .sallyport beside package.json unless said

Examples:
  npm start
  npm start -- --once --json
`

function howToGoOn({ ems, ports, files, agent }: Stage): string {
  const state = files.agent
  return `
Everything is up. Try it:

  curl -x http://127.0.0.1:${ports.httpProxy} http://${INTRANET.host}/           the intranet, through agent and gateway
  curl --socks5-hostname 127.0.0.1:${ports.socksProxy} telnet://${LEDGER.host}:${LEDGER.port}   the ledger; it says back what you type
  rm ${files.watched}     makes this machine unhealthy: the open session is cut
  touch ${files.watched}  mends it
  npm run --silent agent -- status --state ${state}
  npm run --silent agent -- explain healthy --state ${state}
  npm run --silent cli -- endpoints show ${agent.uid}
  npm run --silent cli -- explain DECISION                    the id that a refusal names

EMS        ${ems.address} (API: ${ems.address}/openapi.json)
gateway    127.0.0.1:${ports.gateway}, policies in ${files.policies} (edit them while it runs)
metrics    http://127.0.0.1:${ports.metrics}/metrics
logs       ${files.directory}/{ems,agent,gateway,start}.log

Ctrl-C ends everything; the next "npm start" goes on with the same data.`
}

/** The last line for machines. */
const tellLoop = ({ say }: Steps, record: Record<string, unknown>) => say('', { step: 'loop', ...record })

async function play(directory: string, port: number, steps: Steps, stopping: AbortSignal): Promise<Stage> {
  try {
    const stage = await startStage({ directory, port, steps, stopping })
    try {
      stopping.throwIfAborted()
      steps.say('\nThe loop:')
      tellLoop(steps, { ok: true, ...await runLoop(stage, steps) })
      return stage
    } catch (cause) {
      const own = !isGenerated(await readPrivateFile(stage.files.policies))
      await stage.close()
      throw own && !stopping.aborted ? new Error(`${cause instanceof Error ? cause.message : String(cause)}. The policies are your own, and the loop needs that devices with the tag "${TAG}" reach the intranet and the ledger, and others do not: move ${stage.files.policies} away to have those of npm start back`, { cause }) : cause
    }
  } catch (cause) {
    tellLoop(steps, { ok: false, detail: cause instanceof Error ? cause.message : String(cause) })
    throw cause
  }
}

async function main(argv: string[]): Promise<number> {
  const { values, positionals: [unexpected] } = readArguments(argv, { once: { type: 'boolean' }, json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' }, port: { type: 'string' }, directory: { type: 'string' } })
  if (values.help === true) {
    process.stdout.write(help)
    return 0
  }
  if (unexpected !== undefined) throw new UsageError(`"${unexpected}" is not expected.`)
  const port = Number(values.port ?? 0)
  if (!/^\d*$/.test(values.port ?? '') || port > 65_535) throw new UsageError(`--port takes a port, not "${values.port ?? ''}".`)
  const directory = resolve(values.directory ?? fileURLToPath(new URL('../.sallyport', import.meta.url)))
  const steps = printSteps(values.json === true)
  steps.say('Sallyport, on this machine:')
  try {
    return await runUntilSignal(async (stopping) => {
      const stage = await play(directory, port, steps, stopping)
      if (values.once === true) {
        await stage.close()
        return null
      }
      steps.say(howToGoOn(stage))
      return stage
    })
  } catch (cause) {
    process.stderr.write(`npm start failed: ${cause instanceof Error ? cause.message : String(cause)}\n`)
    return 1
  }
}

async function codeOf(argv: string[]): Promise<number> {
  try {
    return await main(argv)
  } catch (cause) {
    if (!(cause instanceof UsageError)) throw cause
    process.stderr.write(`${cause.message}\n\n${help}`)
    return 2
  }
}

await endProcess(await codeOf(process.argv.slice(2)))
