// Asks before something is done that can't be undone.
import { createInterface } from 'node:readline'
import { UsageError } from '../node/config.ts'
import { harmless } from './harmless.ts'
import { write, type Io } from './io.ts'

/** May be looked up: only where somebody is asked. */
export type Question = string | (() => Promise<string>)

/** Returns when it may go on. Throws when the answer is no, and `UsageError` when nobody can be asked. */
export async function confirm(io: Pick<Io, 'in' | 'err'>, yes: boolean, question: Question): Promise<void> {
  if (yes) return
  if (io.in.isTTY !== true) throw new UsageError('This asks before it acts, and standard input is no terminal: say --yes.')
  await write(io.err, `${harmless(typeof question === 'string' ? question : await question())} [y/N] `)
  if (!/^\s*y(es)?\s*$/i.test(await readLine(io))) throw new Error('Nothing was changed.')
}

/** The next line; empty at the end of input. Leaving an iteration over lines would leave the terminal open, and the process waiting on it. */
async function readLine(io: Pick<Io, 'in'>): Promise<string> {
  const lines = createInterface({ input: io.in })
  try {
    return await new Promise<string>((resolve) => lines.once('line', resolve).once('close', () => resolve('')))
  } finally {
    lines.close()
  }
}
