// `agent run`: the agent itself, until SIGTERM or until the EMS lets this machine go.
import { environment } from '../../node/config.ts'
import { runUntilSignal } from '../../node/life-cycle.ts'
import { createLog } from '../../node/logging.ts'
import { startAgent } from '../start.ts'
import type { Perform } from './verb.ts'

export const perform: Perform = async ({ values, directory }) => {
  const log = createLog({ name: 'agent', level: environment.logLevel ?? 'info' })
  const { promise: ended, resolve: finish } = Promise.withResolvers<number>()
  const signalled = runUntilSignal(async () => {
    const agent = await startAgent({ stateDirectory: directory, transparent: values.transparent === true, log, now: Date.now })
    // Let go by the EMS: there is nothing left to run. A service manager must not start it again and again, so that is success.
    agent.ended.then(() => finish(0), () => finish(1))
    return agent
  }, log)
  return await Promise.race([signalled, ended])
}
