// `agent enrol`: this machine becomes an endpoint of the EMS that the invitation names.
import { readFile } from 'node:fs/promises'
import { environment, UsageError } from '../../node/config.ts'
import { createLog } from '../../node/logging.ts'
import { enrolAgent } from '../enrol.ts'
import { readCommand } from '../posture/read.ts'
import { findAccount } from '../posture/user.ts'
import type { Perform } from './verb.ts'

async function userId(wanted: string | undefined): Promise<number> {
  if (wanted === undefined) return process.getuid?.() ?? 0
  const account = await findAccount('/', /^\d+$/.test(wanted) ? Number(wanted) : wanted, readCommand)
  if (account === null) throw new UsageError(`--user: this machine has no user ${wanted}.`)
  return account.uid
}

export const perform: Perform = async ({ words: [invitation], values, directory, print }) => {
  if (invitation === undefined) throw new UsageError('enrol needs the invitation; an administrator makes one.')
  const tlsCa = values['tls-ca'] ?? environment.tlsCa
  const ownerUid = await userId(values.user)
  const { uid, ems } = await enrolAgent({
    invitation, stateDirectory: directory, tlsCa: tlsCa === undefined ? [] : [await readFile(tlsCa, 'utf8')], ownerUid, now: Date.now, log: createLog({ name: 'agent', level: 'error' }),
  })
  print.out(`Enrolled with ${ems} as ${uid}. The local proxy will serve user id ${ownerUid} only${ownerUid === 0 && values.user === undefined ? ' (root; --user names another)' : ''}.\nNow start the agent: agent run --state ${directory}`)
  return 0
}
