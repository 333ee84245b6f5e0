// HTTP/2 by hand: requests that no library would send. Header fields are literals without indexing (RFC 7541 §6.2.2), so that every byte can be wrong.
import { once } from 'node:events'
import { connect, type TLSSocket } from 'node:tls'
import { gatewayTlsName } from '../../../protocol/certificates.ts'
import { GATEWAY, later, type Credential, type Gate } from './gate-under-test.ts'

export type Field = readonly [name: string, value: string]
const [HEADERS, RST_STREAM, SETTINGS, GOAWAY, DATA] = [1, 3, 4, 7, 0]
const [END_STREAM, END_HEADERS] = [1, 4]

const prefixed = (length: number): Buffer => {
  if (length < 127) return Buffer.from([length])
  const bytes = [127]
  let rest = length - 127
  for (; rest >= 128; rest >>= 7) bytes.push((rest & 127) | 128)
  return Buffer.from([...bytes, rest])
}
const text = (value: string) => {
  const bytes = Buffer.from(value, 'latin1')
  return [prefixed(bytes.length), bytes]
}
const block = (fields: readonly Field[]) => Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), ...text(name), ...text(value)]))
function frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head[3] = type
  head[4] = flags
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

export interface RawRequest { readonly fields: readonly Field[]; readonly data?: string; readonly trailers?: readonly Field[] }

/** A connection that speaks HTTP/2 in frames. */
export async function openFrames(gate: Gate, credential: Credential): Promise<TLSSocket> {
  const socket = connect({ host: '127.0.0.1', port: gate.proxy.port, ca: gate.authority.certificatePem, servername: gatewayTlsName(GATEWAY), cert: credential.cert, key: credential.key, ALPNProtocols: ['h2'] })
  socket.on('error', () => socket.destroy())
  later(() => socket.destroy())
  await once(socket, 'secureConnect')
  socket.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(SETTINGS, 0, 0, Buffer.alloc(0))]))
  return socket
}

/** Sends a request on stream 1 and waits for its end. @returns `answered` with whether the status is 200, or how it was refused */
export async function sendRaw(socket: TLSSocket, { fields, data, trailers }: RawRequest): Promise<'ok' | 'not ok' | 'reset' | 'goaway' | 'closed'> {
  const last = (is: boolean) => (is ? END_STREAM : 0)
  socket.write(Buffer.concat([
    frame(HEADERS, END_HEADERS | last(data === undefined && trailers === undefined), 1, block(fields)),
    ...(data === undefined ? [] : [frame(DATA, last(trailers === undefined), 1, Buffer.from(data, 'latin1'))]),
    ...(trailers === undefined ? [] : [frame(HEADERS, END_HEADERS | END_STREAM, 1, block(trailers))]),
  ]))
  let status: 'ok' | 'not ok' = 'not ok'
  let read = Buffer.alloc(0)
  const { promise, resolve } = Promise.withResolvers<'ok' | 'not ok' | 'reset' | 'goaway' | 'closed'>()
  socket.on('data', (chunk: Buffer) => {
    read = Buffer.concat([read, chunk])
    while (read.length >= 9) {
      const length = read.readUIntBE(0, 3)
      if (read.length < 9 + length) return
      const [type, flags, stream, payload] = [read[3] ?? 0, read[4] ?? 0, read.readUInt32BE(5), read.subarray(9, 9 + length)]
      read = read.subarray(9 + length)
      if (type === GOAWAY) resolve('goaway')
      if (stream !== 1) continue
      if (type === RST_STREAM) resolve('reset')
      // The static table holds `:status: 200` at 8 (RFC 7541, appendix A).
      if (type === HEADERS && payload[0] === 0x88) status = 'ok'
      if ((type === HEADERS || type === DATA) && (flags & END_STREAM) !== 0) resolve(status)
    }
  })
  socket.once('close', () => resolve('closed'))
  return await promise
}
