// Lines in a file of a directory, rotated and bounded in size and in what waits for the disk. A full disk stops nobody: what can't be written is counted.
import { createWriteStream, type WriteStream } from 'node:fs'
import { rename, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Log } from '../../node/logging.ts'

export interface Journal {
  /** Takes a line, its end included; returns at once. */
  write(line: string): void
  /** Files that hold lines, the newest first. */
  readonly files: readonly string[]
  close(): Promise<void>
}

interface JournalOptions {
  readonly directory: string
  /** `name.jsonl`, and `name.1.jsonl` … for what has been rotated away. */
  readonly name: string
  readonly log: Log
  readonly now: () => number
  /** Size at which a file is rotated, and how many rotated ones are kept. */
  readonly fileBytes: number
  readonly keep: number
}

const MAX_QUEUED_BYTES = 8 << 20
const MAX_WAITING = 4_096
const RETRY_AFTER = 10_000
/** What a crash of the process may take along. */
const GATHER_MS = 20
const GATHER_BYTES = 65_536

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0
    throw error
  }
}

const flush = (stream: WriteStream) => new Promise<void>((resolve) => {
  if (stream.closed || stream.destroyed) resolve()
  else {
    stream.once('close', () => resolve())
    stream.end()
  }
})

/** Opens a journal; its directory exists. */
export async function openJournal({ directory, name, log, now, fileBytes, keep }: JournalOptions): Promise<Journal> {
  const files = Array.from({ length: keep + 1 }, (_, index) => join(directory, index === 0 ? `${name}.jsonl` : `${name}.${index}.jsonl`))
  const [current = ''] = files
  let written = await sizeOf(current)
  let lost = 0
  let failedAt: number | null = null
  let rotating: Promise<void> | null = null
  const waiting: string[] = []
  /** Lines of the last moments: a call to the kernel for each would cost more than the decision. */
  let gathered: string[] = []
  let gatheredBytes = 0
  let flushing: NodeJS.Timeout | null = null

  function open(): WriteStream {
    const opened = createWriteStream(current, { flags: 'a', mode: 0o600 })
    opened.on('error', (error) => {
      if (failedAt === null) log.error({ event: 'audit_failed', file: current, cause: error.message }, 'Decisions can not be written down; sessions go on')
      failedAt = now()
    })
    return opened
  }
  let output = open()

  async function rotate(): Promise<void> {
    hand()
    await flush(output)
    for (let index = keep; index > 0; index--) {
      try {
        await rename(files[index - 1] ?? '', files[index] ?? '')
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      }
    }
    written = 0
  }

  function hand(): void {
    if (flushing !== null) clearTimeout(flushing)
    flushing = null
    if (gathered.length === 0) return
    output.write(gathered.join(''))
    gathered = []
    gatheredBytes = 0
  }

  function write(line: string): void {
    if (failedAt !== null) {
      if (now() - failedAt < RETRY_AFTER) {
        lost += 1
        return
      }
      log.warn({ event: 'audit_retried', file: current, lost }, 'Trying again to write decisions down')
      failedAt = null
      lost = 0
      output = open()
    }
    if (output.writableLength > MAX_QUEUED_BYTES) {
      lost += 1
      return
    }
    const bytes = Buffer.byteLength(line)
    gathered.push(line)
    gatheredBytes += bytes
    written += bytes
    if (gatheredBytes >= GATHER_BYTES) hand()
    else flushing ??= setTimeout(hand, GATHER_MS)
    if (written >= fileBytes) startRotation()
  }

  function startRotation(): void {
    rotating = rotate().catch((error: Error) => {
      written = 0
      log.error({ event: 'audit_not_rotated', file: current, cause: error.message }, 'The record of decisions could not be rotated; it goes on in the same file')
    }).then(() => {
      rotating = null
      output = open()
      for (const line of waiting.splice(0)) take(line)
    })
  }

  function take(line: string): void {
    if (rotating === null) write(line)
    else if (waiting.length < MAX_WAITING) waiting.push(line)
    else lost += 1
  }

  /** Waits until no rotation is under way: what waited for one may begin the next. */
  async function settle(): Promise<void> {
    if (rotating === null) return
    await rotating
    await settle()
  }

  return {
    write: take,
    files,
    async close() {
      await settle()
      hand()
      await flush(output)
    },
  }
}
