// `npm start`: the EMS on this machine, over HTTPS, with its data kept in .sallyport/. Ctrl-C ends it and loses nothing.
import { fileURLToPath } from 'node:url'
import { createControlClient } from '../node/control-client.ts'
import { readArguments, UsageError } from '../node/config.ts'
import { introduceEms } from '../node/introduce.ts'
import { runUntilSignal } from '../node/life-cycle.ts'
import { createLog } from '../node/logging.ts'
import { INVITATION_PREFIX, readInvitation } from '../protocol/invitation.ts'
import { createInvitation, listEndpoints } from '../protocol/operations/admin.ts'
import { startEms } from './ems.ts'
import { printSteps } from './steps.ts'

const help = `Usage: npm start -- [--once] [--json] [--port N] [--directory DIR]

Starts the EMS on local emulation (real Worker, D1 and objects) over HTTPS, proves it by its pin, and stays up.

  --once           end after the steps; exit code 0, or 1 if one failed
  --json           one JSON line per step
  --port N         listen there; the first start picks a free port and keeps it
  --directory DIR  keep data there; .sallyport beside package.json unless said

Examples:
  npm start
  npm start -- --once --json
`

async function main(argv: string[]): Promise<number> {
  const { values } = readArguments(argv, { once: { type: 'boolean' }, json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' }, port: { type: 'string' }, directory: { type: 'string' } })
  if (values.help === true) {
    process.stdout.write(help)
    return 0
  }
  const port = Number(values.port ?? 0)
  if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new UsageError(`--port takes a port, not "${values.port ?? ''}"`)
  const directory = values.directory ?? fileURLToPath(new URL('../.sallyport', import.meta.url))
  const { say, step } = printSteps(values.json === true)
  say('Sallyport, on this machine:')
  const start = async () => {
    const ems = await step('ems', 'the EMS answers over HTTPS', () => startEms({ directory, port }), ({ address }) => address)
    const client = createControlClient({ ems: ems.address, token: ems.adminToken, tlsCa: [ems.tlsCaPem], now: Date.now, log: createLog({ name: 'start' }) })
    const invitation = await step('invitation', 'an invitation was made', () => client.call(createInvitation, { body: { name: 'npm start' } }), ({ id }) => id)
    const read = readInvitation(INVITATION_PREFIX, invitation.text)
    if (read === null) throw new Error('the invitation can not be read back')
    await step('introduction', 'the EMS proves that it holds the CA of the invitation', () => introduceEms(client, read), ({ emsSerial }) => emsSerial)
    const { items } = await step('endpoints', 'endpoints are listed', () => client.call(listEndpoints, { query: {} }), (list) => `${list.items.length} enrolled`)
    await client.close()
    say(`
The EMS is at ${ems.address} (API: ${ems.address}/openapi.json). ${items.length} endpoints are enrolled.
Its administrator's token and TLS root are in ${directory}; try:

  curl --cacert ${directory}/tls-ca.pem -H "Authorization: Bearer $(node -p 'require("${directory}/secrets.json").adminToken')" ${ems.address}/api/v1/admin/licence
`)
    return ems
  }
  try {
    if (values.once !== true) return await runUntilSignal(start)
    await (await start()).close()
    return 0
  } catch (cause) {
    process.stderr.write(`npm start failed: ${cause instanceof Error ? cause.message : String(cause)}\n`)
    return 1
  }
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (cause) {
  if (!(cause instanceof UsageError)) throw cause
  process.stderr.write(`${cause.message}\n\n${help}`)
  process.exitCode = 2
}
