// Asks before something is done that can't be undone.
import { createInterface } from 'node:readline'
import { UsageError } from '../node/config.ts'
import { harmless } from './harmless.ts'
import { write, type Io } from './io.ts'

/** May be looked up: only where somebody is asked. */
export type Question = string | (() => Promise<string>)

/** Returns when it may go on. Throws when the answer is no, and `UsageError` when nobody can be asked. */
export async function confirm(io: Io, yes: boolean, question: Question): Promise<void> {
  if (yes) return
  if (io.in.isTTY !== true) throw new UsageError('This asks before it acts, and standard input is no terminal: say --yes.')
  await write(io.err, `${harmless(typeof question === 'string' ? question : await question())} [y/N] `)
  for await (const line of createInterface({ input: io.in })) {
    if (/^\s*y(es)?\s*$/i.test(line)) return
    break
  }
  throw new Error('Nothing was changed.')
}
