// The PAC file's place on the agent's HTTP port, and who may read it: a browser's proxy settings, which know the path. No page may: it
// would learn what the organisation protects.
import { randomBytes, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { readPrivateFile, writePrivateFile } from '../../node/key-store.ts'
import { systemFailure } from '../failure.ts'

export interface Pac {
  readonly path: string
  /** The file for whoever asks so; null: it is none of theirs, and they are to learn no more than from any other path. */
  answer(incoming: IncomingMessage): string | null
}

/** The path of this enrolment's PAC file; it stays, because browsers are set to it. On a disk that can't be written it is another after each start. */
export async function pacPath(file: string): Promise<string> {
  const kept = await readPrivateFile(file)
  if (kept !== null && /^\/[A-Za-z0-9_-]{22}\/proxy\.pac$/.test(kept)) return kept
  const path = `/${randomBytes(16).toString('base64url')}/proxy.pac`
  await writePrivateFile(file, path).catch((cause: unknown) => {
    if (systemFailure(cause) === null) throw cause
  })
  return path
}

const isSame = (one: string, other: string): boolean => one.length === other.length && timingSafeEqual(Buffer.from(one, 'latin1'), Buffer.from(other, 'latin1'))

/** @param text the file for a proxy on this port */
export function createPac(path: string, text: (httpPort: number) => string): Pac {
  return {
    path,
    answer({ method, url = '', headersDistinct, socket }) {
      if (method !== 'GET' || !isSame(url, path)) return null
      const port = socket.localPort ?? 0
      // A page that rebinds its name to 127.0.0.1 is same-origin with this port, and Chromium tells nothing of where it comes from then;
      // but the name in Host is the page's own.
      const hosts = headersDistinct.host ?? []
      if (hosts.length !== 1 || ![`127.0.0.1:${port}`, `localhost:${port}`].includes(hosts[0]?.toLowerCase() ?? '')) return null
      if (headersDistinct.origin !== undefined || (headersDistinct['sec-fetch-site'] ?? []).some((site) => site !== 'none')) return null
      return text(port)
    },
  }
}
