// What a run of the command line touches of its surroundings. A value, so that tests bring their own.
import type { Readable, Writable } from 'node:stream'
import { environment } from '../node/config.ts'

export interface Io {
  /** Data goes to `out`, sentences for people to `err`. */
  readonly out: Writable
  readonly err: Writable
  readonly in: Readable & { readonly isTTY?: boolean }
  /** ms. */
  readonly now: () => number
  /** Relative paths are meant from here, and `.sallyport` is looked for here. */
  readonly directory: string
  readonly environment: { readonly ems?: string | undefined; readonly token?: string | undefined; readonly tlsCa?: string | undefined }
}

export function systemIo(): Io {
  // A stream whose reader has gone raises an event beside the failure of the write itself; the write tells its caller.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => stream.destroy())
  return { out: process.stdout, err: process.stderr, in: process.stdin, now: Date.now, directory: process.cwd(), environment }
}

/** A stream as UTF-8, a character never halved. */
export async function* pieces(stream: AsyncIterable<unknown>): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  for await (const chunk of stream) yield typeof chunk === 'string' ? chunk : decoder.decode(chunk as Uint8Array, { stream: true })
  yield decoder.decode()
}

/** Resolves when the stream has taken the text: a slow reader slows the listing, not the memory. */
export const write = (stream: Writable, text: string): Promise<void> => new Promise((resolve, reject) => {
  stream.write(text, (error) => (error instanceof Error ? reject(error) : resolve()))
})
