// Which state directory a command means when nobody names one.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { statusSocket } from './local-status.ts'

/** Where an agent that serves the machine as root keeps its state. */
const OF_THE_MACHINE = '/var/lib/sallyport'

/**
 * The person's own; where they have none, that of the machine's agent, if one runs: so that `agent sign-in` does what it says to whoever is told to run it.
 * @param asks the command asks a running agent; others begin or change a state of the person's own
 */
export function statePlace(asks: boolean, home: string, machine = OF_THE_MACHINE): string {
  const own = join(home, '.sallyport-agent')
  return asks && !existsSync(own) && existsSync(statusSocket(machine)) ? machine : own
}
