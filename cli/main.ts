// The administrators' command line: reads what is asked, asks the EMS by its HTTP API, prints what it said. What a command does stands with its noun.
import { text } from 'node:stream/consumers'
import { resolve } from 'node:path'
import { UsageError } from '../node/config.ts'
import { createControlClient } from '../node/control-client.ts'
import { silentLog } from '../node/logging.ts'
import { confirm } from './confirm.ts'
import { findConnection, readPieces, readText } from './connection.ts'
import { failureText, type Attempt } from './failure-text.ts'
import { pieces, systemIo, write, type Io } from './io.ts'
import { chooseCommand, readTyped } from './parse.ts'
import { createPrinter } from './printer.ts'
import { saveText } from './save.ts'

/** Runs one command. @returns the exit code: 0 done, 1 failed, 2 wrong usage */
export async function main(argv: readonly string[], io: Io): Promise<number> {
  let attempt: Attempt = { command: null, given: null, connection: null }
  try {
    const typed = chooseCommand(argv, io.directory)
    if ('help' in typed) {
      await write(io.out, `${typed.help}\n`)
      return 0
    }
    const { command, json } = typed
    attempt = { ...attempt, command }
    const { given, where } = readTyped(typed, io.directory)
    const connection = await findConnection(where, io, command.needsToken ?? true)
    attempt = { command, given, connection }
    const printer = createPrinter(io, json)
    for (const note of connection.notes) await printer.say(note)
    const { ems, token, tlsCa } = connection
    const client = createControlClient({ ems, tlsCa, ...(token === null ? {} : { token }), now: io.now, log: silentLog() })
    try {
      await command.run(given, {
        call: client.call, printer, now: io.now,
        read: (path) => (path === '-' ? text(io.in) : readText(resolve(io.directory, path))),
        open: (path) => (path === '-' ? pieces(io.in) : readPieces(resolve(io.directory, path))),
        save: (path, lines, force) => saveText(resolve(io.directory, path), `${lines.join('\n')}\n`, force),
        confirm: (yes, question) => confirm(io, yes, question),
      })
    } finally {
      await client.close()
    }
    return 0
  } catch (cause) {
    // Whoever read this has gone (`… | head`): there is nobody to tell.
    if (cause instanceof Error && (cause as NodeJS.ErrnoException).code === 'EPIPE') return 1
    await write(io.err, failureText(cause, attempt).map((line) => `${line}\n`).join(''))
    return cause instanceof UsageError ? 2 : 1
  }
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2), systemIo())
