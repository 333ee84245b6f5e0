// The gateway's record of its decisions and of how sessions ended: JSON lines in a directory, rotated and bounded, found again by id. A full disk stops no session.
import { createReadStream, type WriteStream, createWriteStream } from 'node:fs'
import { mkdir, rename, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { decision as decisionShape, type Decision, type SessionEnd } from '../../protocol/decisions.ts'
import type { Log } from '../../node/logging.ts'

export interface Audit {
  /** Takes a decision down; returns at once. */
  record(decision: Decision): void
  /** Takes the end of a session down; returns at once. */
  ended(end: SessionEnd): void
  /** A decision that was taken here and is not yet rotated away; null otherwise. */
  find(id: string): Promise<Decision | null>
  close(): Promise<void>
}

interface AuditOptions {
  readonly directory: string
  readonly log: Log
  readonly now: () => number
  /** Size at which a file is rotated, and how many rotated ones are kept. */
  readonly fileBytes?: number
  readonly keep?: number
}

const RECENT = 4096
const MAX_QUEUED_BYTES = 8 << 20
const RETRY_AFTER = 10_000

const parseLine = (text: string): Decision | null => {
  try {
    return decisionShape.safeParse(JSON.parse(text)).data ?? null
  } catch {
    return null // a line torn by a crash: it is no decision, the others are
  }
}

/** The decision with that id in one file; null when it is not there or the file is not. */
async function findInFile(path: string, id: string): Promise<Decision | null> {
  const input = createReadStream(path)
  // Errors reach the iteration below only while it runs; a missing file is an ordinary outcome.
  let failure: NodeJS.ErrnoException | null = null
  input.on('error', (error) => {
    failure = error
  })
  const lines = createInterface({ input, crlfDelay: Infinity })
  input.on('error', () => lines.close())
  for await (const line of lines) {
    if (!line.includes(id)) continue
    const found = parseLine(line)
    if (found?.id !== id) continue
    input.destroy()
    return found
  }
  const error = failure as NodeJS.ErrnoException | null
  if (error !== null && error.code !== 'ENOENT') throw error
  return null
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0
    throw error
  }
}

/** Opens the record in `directory`, which is made when missing. */
export async function openAudit({ directory, log, now, fileBytes = 64 << 20, keep = 4 }: AuditOptions): Promise<Audit> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const file = (index: number) => join(directory, index === 0 ? 'decisions.jsonl' : `decisions.${index}.jsonl`)
  const recent = new Map<string, Decision>()
  let written = await sizeOf(file(0))
  let lost = 0
  let failedAt: number | null = null
  let rotating: Promise<void> | null = null
  const waiting: string[] = []

  function open(): WriteStream {
    const opened = createWriteStream(file(0), { flags: 'a', mode: 0o600 })
    opened.on('error', (error) => {
      if (failedAt === null) log.error({ event: 'audit_failed', cause: error.message }, 'Decisions can not be written down; sessions go on')
      failedAt = now()
    })
    return opened
  }
  let output = open()
  const flush = (stream: WriteStream) => new Promise<void>((resolve) => {
    if (stream.closed || stream.destroyed) resolve()
    else {
      stream.once('close', () => resolve())
      stream.end()
    }
  })

  async function rotate(): Promise<void> {
    await flush(output)
    for (let index = keep; index > 0; index--) {
      try {
        await rename(file(index - 1), file(index))
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      }
    }
    written = 0
  }

  function write(line: string): void {
    if (failedAt !== null) {
      if (now() - failedAt < RETRY_AFTER) {
        lost += 1
        return
      }
      log.warn({ event: 'audit_retried', lost }, 'Trying again to write decisions down')
      failedAt = null
      lost = 0
      output = open()
    }
    if (output.writableLength > MAX_QUEUED_BYTES) {
      lost += 1
      return
    }
    output.write(line)
    written += Buffer.byteLength(line)
    if (written >= fileBytes) startRotation()
  }

  function startRotation(): void {
    rotating = rotate().catch((error: Error) => {
      written = 0
      log.error({ event: 'audit_not_rotated', cause: error.message }, 'The record of decisions could not be rotated; it goes on in the same file')
    }).then(() => {
      rotating = null
      output = open()
      for (const line of waiting.splice(0)) take(line)
    })
  }

  function take(line: string): void {
    if (rotating === null) write(line)
    else if (waiting.length < RECENT) waiting.push(line)
    else lost += 1
  }

  /** Waits until no rotation is under way: what waited for one may begin the next. */
  async function settle(): Promise<void> {
    if (rotating === null) return
    await rotating
    await settle()
  }

  return {
    record(decision) {
      recent.set(decision.id, decision)
      if (recent.size > RECENT) recent.delete(recent.keys().next().value ?? '')
      take(`${JSON.stringify(decision)}\n`)
    },
    ended: (end) => take(`${JSON.stringify(end)}\n`),
    async find(id) {
      const known = recent.get(id)
      if (known !== undefined) return known
      for (let index = 0; index <= keep; index++) {
        const found = await findInFile(file(index), id)
        if (found !== null) return found
      }
      return null
    },
    async close() {
      await settle()
      await flush(output)
    },
  }
}
