// Certificates with their keys in PEM files, as administrators and ACME clients put them there: read, checked, and read again when they change.
import { X509Certificate, createPrivateKey } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import type { Log } from '../../node/logging.ts'
import type { Timers } from '../../node/timers.ts'

/** PEM; `cert` may hold its chain. */
export interface KeyPair { readonly cert: string; readonly key: string }
export interface KeyPairFiles { readonly certificateFile: string; readonly keyFile: string }

export interface KeyPairs {
  /** What was last read of files that are followed; undefined: never readable. The object is another one after a change. */
  get(files: KeyPairFiles): KeyPair | undefined
  /** Follows these files from now on and no others; resolves when each has been read. */
  follow(files: readonly KeyPairFiles[]): Promise<void>
  onChange(listener: () => void): () => void
  close(): void
}

/** Files are looked at, not watched: certificates are replaced by links to links. */
const LOOK_EVERY = 10_000

const keyOf = ({ certificateFile, keyFile }: KeyPairFiles): string => `${certificateFile}\0${keyFile}`
const stamp = async (path: string): Promise<string> => {
  const { mtimeMs, ino, size } = await stat(path)
  return `${ino} ${mtimeMs} ${size}`
}

/** Reads a pair. @throws Error when a file can't be read, is none, or the key is another certificate's */
export async function readKeyPair({ certificateFile, keyFile }: KeyPairFiles): Promise<KeyPair> {
  const [cert, key] = await Promise.all([readFile(certificateFile, 'utf8'), readFile(keyFile, 'utf8')])
  if (!new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))) throw new Error(`the key in ${keyFile} is not that of the certificate in ${certificateFile}`)
  return { cert, key }
}

export function createKeyPairs({ timers, log }: { readonly timers: Timers; readonly log: Log }): KeyPairs {
  let followed = new Map<string, { readonly files: KeyPairFiles; stamp: string; pair: KeyPair | undefined }>()
  const listeners = new Set<() => void>()
  let closed = false
  let stop = () => {}

  /** @returns whether anything was read anew */
  async function look(): Promise<boolean> {
    let changed = false
    for (const each of followed.values()) {
      const { files: { certificateFile, keyFile } } = each
      try {
        const now = `${await stamp(certificateFile)} ${await stamp(keyFile)}`
        if (now === each.stamp) continue
        each.pair = await readKeyPair(each.files)
        each.stamp = now
        changed = true
      } catch (cause) {
        // A renewal writes two files: between them they do not fit, and the pair before goes on.
        if (each.stamp !== 'failed') log.error({ event: 'key-pair-unreadable', certificateFile, reason: cause instanceof Error ? cause.message : String(cause) }, 'A certificate can not be used; the one before it stays, if there was one.')
        each.stamp = 'failed'
      }
    }
    return changed
  }
  function lookAgain(): void {
    stop = timers.after(LOOK_EVERY, () => {
      look().then((changed) => {
        if (closed) return
        if (changed) for (const listener of listeners) listener()
        lookAgain()
      }, (cause: Error) => log.fatal({ event: 'key-pairs-broken', reason: cause.message }, 'Certificates in files are no longer followed.'))
    })
  }
  lookAgain()
  return {
    get: (files) => followed.get(keyOf(files))?.pair,
    async follow(files) {
      followed = new Map(files.map((each) => [keyOf(each), followed.get(keyOf(each)) ?? { files: each, stamp: '', pair: undefined }]))
      if (await look()) for (const listener of listeners) listener()
    },
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close() {
      closed = true
      stop()
    },
  }
}
