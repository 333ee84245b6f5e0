// The user's picture: read from a file that the user names, and given to the EMS before a report names it by its fingerprint.
import { createHash } from 'node:crypto'
import { Fault, type FaultCode } from '../../protocol/faults.ts'
import type { Log } from '../../node/logging.ts'
import { openForeign, tellsOfFile } from './read.ts'

export interface Picture { readonly mediaType: 'image/png' | 'image/jpeg'; readonly bytes: Buffer; readonly fingerprint: string }
const MAX_PICTURE_BYTES = 48 * 1024

/**
 * A picture; null when it is not there, too large, or neither PNG nor JPEG. Where the agent may read more than the enrolled user,
 * the file must be the user's own: a link to somebody else's picture would publish it.
 */
export async function readPicture(path: string, ownerUid: number): Promise<Picture | null> {
  const handle = await openForeign(path)
  if (handle === null) return null
  try {
    const facts = await handle.stat()
    const mayRead = process.getuid === undefined || process.getuid() === ownerUid || facts.uid === ownerUid
    if (!facts.isFile() || !mayRead || facts.size > MAX_PICTURE_BYTES) return null
    const buffer = Buffer.alloc(MAX_PICTURE_BYTES + 1)
    let length = 0
    for (let read = 1; read > 0 && length < buffer.length; length += read) read = (await handle.read(buffer, length, buffer.length - length, length)).bytesRead
    const bytes = buffer.subarray(0, length)
    const mediaType = bytes.subarray(0, 4).toString('hex') === '89504e47' ? 'image/png' : bytes.subarray(0, 3).toString('hex') === 'ffd8ff' ? 'image/jpeg' : null
    return length > MAX_PICTURE_BYTES || mediaType === null ? null : { mediaType, bytes, fingerprint: createHash('sha256').update(bytes).digest('hex') }
  } catch (cause) {
    if (tellsOfFile(cause)) return null
    throw cause
  } finally {
    await handle.close()
  }
}

export interface Pictures {
  /** Reads a file and keeps what it holds until it is asked for; its fingerprint, or null when there is no picture to show. */
  read(path: string): Promise<string | null>
  /** Resolves when the EMS has the picture with this fingerprint. Throws the EMS's `Fault`; one that is about the picture is not met again. */
  deliver(fingerprint: string): Promise<void>
}

/** Faults that are not about the picture: the report would meet them too. Any other must not keep the report back. */
const notAboutIt = new Set<FaultCode>(['busy', 'too_many', 'replayed', 'clock_skew', 'certificate_expired', 'certificate_revoked', 'deregistered'])

/** @param onRefused the EMS will not have the picture: the section is to be read again, without it */
export function createPictures({ ownerUid, put, onRefused, log }: { ownerUid: number; put: (picture: Picture) => Promise<unknown>; onRefused: () => void; log: Log }): Pictures {
  let latest: Picture | null = null
  const refused = new Set<string>()
  const delivered = new Set<string>()
  return {
    async read(path) {
      latest = await readPicture(path, ownerUid)
      return latest === null || refused.has(latest.fingerprint) ? null : latest.fingerprint
    },
    async deliver(fingerprint) {
      if (delivered.has(fingerprint) || latest?.fingerprint !== fingerprint) return
      if (refused.has(fingerprint)) throw new Fault('invalid', 'The EMS does not take this picture.')
      try {
        await put(latest)
        delivered.add(fingerprint)
      } catch (cause) {
        if (cause instanceof Fault && !notAboutIt.has(cause.code)) {
          refused.add(fingerprint)
          log.warn({ event: 'picture-refused', fault: cause.code, reason: cause.message }, 'The EMS does not take the user\'s picture; it is left out.')
          onRefused()
        }
        throw cause
      }
    },
  }
}
