// `agent connect`: standard input and output to a destination through the local proxy, as ssh wants it of a ProxyCommand.
import { createWriteStream, fstatSync } from 'node:fs'
import { Socket } from 'node:net'
import type { Writable } from 'node:stream'
import { Fault } from '../../protocol/faults.ts'
import { proxyPlace } from '../local-status.ts'
import { bridge } from '../ssh/bridge.ts'
import { readTarget } from '../ssh/destination.ts'
import { ask } from './ask.ts'
import type { Perform } from './verb.ts'

/**
 * Standard output as a stream that can be ended: Node's own can not, and whoever reads it would wait for its end until this process has ended.
 * Where it is one socket with standard input, as ssh gives it, writing never waits: only a stream that knows so loses nothing.
 */
function standardOutput(): Writable {
  const kind = fstatSync(1)
  return kind.isSocket() || kind.isFIFO() ? new Socket({ fd: 1, readable: false, writable: true }) : kind.isFile() ? createWriteStream('', { fd: 1 }) : process.stdout
}

export const perform: Perform = async ({ words, directory, print }) => {
  const target = readTarget(words, false)
  const { httpPort, reason, ownerUid } = proxyPlace.parse(await ask(directory, { ask: 'proxy' }))
  if (httpPort === null) throw new Fault('not_found', `The local proxy is not running: ${reason}.`)
  // The proxy would cut it without a word.
  const own = process.getuid?.() ?? ownerUid
  if (own !== ownerUid) throw new Error(`The local proxy serves user id ${ownerUid} only, for whom this machine was enrolled; this is user id ${own}.`)
  const bridged = await bridge({ proxyPort: httpPort, target, input: process.stdin, output: standardOutput() })
  if (bridged.ok) return 0
  print.err(bridged.message)
  return 1
}
