// `agent pac`: the address of the PAC file, for a browser's settings.
import { Fault } from '../../protocol/faults.ts'
import { agentStatus } from '../local-status.ts'
import { ask } from './ask.ts'
import type { Perform } from './verb.ts'

export const perform: Perform = async ({ directory, print }) => {
  const { pacUrl, tunnel } = agentStatus.parse(await ask(directory, { ask: 'status' }))
  if (pacUrl === null) throw new Fault('not_found', `There is no PAC file now: the local proxy is not running${tunnel.running ? '' : ` (${tunnel.reason})`}.`)
  print.out(pacUrl)
  return 0
}
