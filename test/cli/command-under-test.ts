// The command line with streams of its own: what it printed, what it said, and its exit code.
import { PassThrough, Writable } from 'node:stream'
import type { Io } from '../../cli/io.ts'
import { main } from '../../cli/main.ts'

export interface Ran { readonly code: number; readonly out: string; readonly err: string }
export interface Surroundings { readonly stdin?: string; readonly terminal?: boolean; readonly directory?: string; readonly environment?: Io['environment']; readonly now?: () => number }

class Kept extends Writable {
  text = ''
  override _write(chunk: Buffer, _: BufferEncoding, done: () => void): void {
    this.text += chunk.toString()
    done()
  }
}

/** Runs one command; nothing of this process's own environment or terminal reaches it. */
export async function run(argv: readonly string[], { stdin = '', terminal = false, directory = '/nonexistent', environment = {}, now = Date.now }: Surroundings = {}): Promise<Ran> {
  const [out, err] = [new Kept(), new Kept()]
  const input = Object.assign(new PassThrough(), { isTTY: terminal })
  input.end(stdin)
  const code = await main(argv, { out, err, in: input, now, directory, environment })
  return { code, out: out.text, err: err.text }
}

/** The words of an example, as a shell would give them. */
export const split = (commandLine: string): string[] => [...commandLine.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '')
