// What is said when a command fails: the sentence, the places, and what to do next.
import { UsageError } from '../node/config.ts'
import { Fault } from '../protocol/faults.ts'
import type { Command } from './command.ts'
import { commands } from './commands.ts'
import type { Connection } from './connection.ts'
import { harmless } from './harmless.ts'

/** What was known when it failed. */
export interface Attempt { readonly command: Command | null; readonly given: Parameters<Command['run']>[0] | null; readonly connection: Connection | null }

/** Lines for standard error. */
export function failureText(cause: unknown, attempt: Attempt): string[] {
  // Help may follow the sentence, in lines of its own.
  if (cause instanceof UsageError) return [...cause.message.split('\n').map(harmless), `cli ${attempt.command === null ? '' : `${attempt.command.name} `}--help says how it is used.`]
  if (!(cause instanceof Fault)) return [harmless(cause instanceof Error ? cause.message : String(cause))]
  const next = nextStep(cause, attempt)
  return [harmless(cause.message), ...(cause.extras.errors ?? []).map(({ pointer, detail }) => harmless(`  ${pointer}: ${detail}`)), ...(next === null ? [] : [harmless(next)])]
}

function nextStep(fault: Fault, { command, given, connection }: Attempt): string | null {
  if (command === null || given === null || connection === null) return null
  switch (fault.code) {
    case 'unauthenticated':
      return `The token came from ${connection.tokenFrom}; ${connection.local === null ? 'it must be the ADMIN_TOKEN that this EMS was deployed with.' : 'is another EMS listening on that port?'}`
    case 'busy':
      return fault.cause === undefined ? tryAgain(fault) : notReached(fault.cause, connection)
    case 'too_many':
      return tryAgain(fault)
    case 'ca_locked':
      return 'Set the secret WRAPPING_KEYS of the EMS, with the key that its CA was wrapped under.'
    case 'not_found':
      return command.missing?.(given.words) ?? listFor(command)
    default:
      return null
  }
}

const tryAgain = ({ extras }: Fault) => `Try again in ${extras.retryAfterSeconds ?? 1} s.`

function listFor({ name }: Command): string | null {
  const list = `${name.split(' ')[0] ?? ''} list`
  return commands.some((each) => each.name === list) ? `cli ${list} shows what there is.` : null
}

/** Node's codes for certificates name what is wrong; everything else is a matter of reaching it. */
function notReached(cause: unknown, { ems, local }: Connection): string {
  const code = cause instanceof Error ? (cause as NodeJS.ErrnoException).code ?? '' : ''
  if (/CERT|ISSUER|LEAF_SIGNATURE/.test(code)) return `Its TLS certificate is not trusted for ${ems}. If it is the right one, give its root: --tls-ca FILE or SALLYPORT_TLS_CA.`
  return local === null ? 'Is that its address (--ems, SALLYPORT_EMS), and is it reached from here?' : `Start it: npm start -- --directory ${local}`
}
