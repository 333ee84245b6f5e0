// `agent status`: what the running agent is doing, and what is wrong with it.
import { agentStatus } from '../local-status.ts'
import { describeStatus } from '../print.ts'
import { ask } from './ask.ts'
import { show, type Perform } from './verb.ts'

export const perform: Perform = async (call) => {
  const told = agentStatus.parse(await ask(call.directory, { ask: 'status' }))
  show(call, told, describeStatus(told, Date.now()))
  return 0
}
