// Reads a request body: bounded while it streams, so that a large one is never held; then parsed, bounded in depth.
import { Fault } from '../../protocol/faults.ts'
import type { Bytes } from '../../identity/encoding.ts'

const MAX_DEPTH = 32

/** Refuses a body that says itself that it is too large. */
export function refuseLarge(request: Request, maxBytes: number): void {
  if (Number(request.headers.get('content-length') ?? 0) > maxBytes) throw tooLarge(maxBytes)
}
/** The bytes of the body, `too_large` beyond the limit. */
export async function readBytes(request: Request, maxBytes: number): Promise<Bytes> {
  const chunks: Uint8Array[] = []
  let total = 0
  for await (const chunk of request.body ?? []) {
    total += chunk.length
    if (total > maxBytes) throw tooLarge(maxBytes)
    chunks.push(chunk)
  }
  const whole = new Uint8Array(total)
  let at = 0
  for (const chunk of chunks) {
    whole.set(chunk, at)
    at += chunk.length
  }
  return whole
}
const tooLarge = (maxBytes: number) => new Fault('too_large', `The body must not be larger than ${maxBytes} bytes.`)

/** Parses a JSON body. An empty one is not `{}`: an operation that takes a body must be sent one. */
export function parseJsonBody(request: Request, bytes: Bytes): unknown {
  const type = (request.headers.get('content-type') ?? '').split(';')[0]?.trim().toLowerCase()
  if (type !== 'application/json') throw new Fault('unsupported_media_type', 'Send the body as application/json.')
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(bytes)
  } catch (cause) {
    throw new Fault('malformed', 'The body is not UTF-8.', { cause })
  }
  if (deeperThan(text, MAX_DEPTH)) throw new Fault('malformed', `The body is nested deeper than ${MAX_DEPTH} levels.`)
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new Fault('malformed', 'The body is not JSON.', { cause })
  }
}

/** Counts brackets outside strings before parsing: deep nesting is work for every later walk of the value. */
function deeperThan(text: string, limit: number): boolean {
  let depth = 0
  let inString = false
  for (let i = 0; i < text.length; i++) {
    const character = text[i]
    if (inString) {
      if (character === '\\') i++
      else if (character === '"') inString = false
    } else if (character === '"') inString = true
    else if (character === '{' || character === '[') {
      if (++depth > limit) return true
    } else if (character === '}' || character === ']') depth--
  }
  return false
}
