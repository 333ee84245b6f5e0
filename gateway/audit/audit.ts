// The gateway's record of its decisions and of how sessions ended, found again by id. Strangers have a journal of their own: they can't write anybody else's away.
import { mkdir, open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { decision as decisionShape, type Decision, type SessionEnd } from '../../protocol/decisions.ts'
import type { Log } from '../../node/logging.ts'
import { openJournal } from './journal.ts'

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

const parseLine = (text: string): Decision | null => {
  try {
    return decisionShape.safeParse(JSON.parse(text)).data ?? null
  } catch {
    return null // a line torn by a crash: it is no decision, the others are
  }
}

/** The decision with that id in one file; null when it is not there or the file is not. */
async function findInFile(path: string, id: string): Promise<Decision | null> {
  const file = await open(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'ENOENT') throw cause
    return null
  })
  if (file === null) return null
  try {
    for await (const line of file.readLines({ autoClose: false })) {
      const found = line.includes(id) ? parseLine(line) : null
      if (found?.id === id) return found
    }
    return null
  } finally {
    await file.close()
  }
}

/** Finds decisions in the records of several processes, which they keep in directories of their own under `directory`. */
export const auditReader = (directory: string): Pick<Audit, 'find'> => ({
  async find(id) {
    const entries = await readdir(directory, { recursive: true, withFileTypes: true })
    for (const entry of entries) {
      const found = entry.isFile() && entry.name.endsWith('.jsonl') ? await findInFile(join(entry.parentPath, entry.name), id) : null
      if (found !== null) return found
    }
    return null
  },
})

/** Opens the record in `directory`, which is made when missing. */
export async function openAudit({ directory, log, now, fileBytes = 64 << 20, keep = 4 }: AuditOptions): Promise<Audit> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const devices = await openJournal({ directory, name: 'decisions', log, now, fileBytes, keep })
  const strangers = await openJournal({ directory, name: 'strangers', log, now, fileBytes: Math.ceil(fileBytes / 4), keep: 1 })
  const recent = new Map<string, Decision>()

  return {
    record(decision) {
      recent.set(decision.id, decision)
      if (recent.size > RECENT) recent.delete(recent.keys().next().value ?? '')
      const journal = decision.uid === null ? strangers : devices
      journal.write(`${JSON.stringify(decision)}\n`)
    },
    ended(end) {
      const journal = end.uid === null ? strangers : devices
      journal.write(`${JSON.stringify(end)}\n`)
    },
    async find(id) {
      const known = recent.get(id)
      if (known !== undefined) return known
      for (const file of [...devices.files, ...strangers.files]) {
        const found = await findInFile(file, id)
        if (found !== null) return found
      }
      return null
    },
    async close() {
      await devices.close()
      await strangers.close()
    },
  }
}
