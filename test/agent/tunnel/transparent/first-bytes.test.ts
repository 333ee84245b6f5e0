// What is read of a connection before anything of it goes on: by every cut, at every length, and from whoever lies about lengths.
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { connect } from 'node:tls'
import { describe, expect, it } from 'vitest'
import { MAX_FIRST_BYTES, judge } from '../../../../agent/tunnel/transparent/first-bytes.ts'
import { readClientHello } from '../../../../agent/tunnel/transparent/client-hello.ts'

const NAME = 'wiki.corp.test'

/** The ClientHello of a real client. */
async function helloFor(servername: string | undefined, more: object = {}): Promise<Buffer> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const socket = connect({ host: '127.0.0.1', port: (server.address() as AddressInfo).port, ...(servername === undefined ? {} : { servername }), ...more })
  socket.on('error', () => socket.destroy())
  const [far] = await once(server, 'connection') as [NodeJS.ReadableStream & { destroy(): void }]
  const [bytes] = await once(far, 'data') as [Buffer]
  socket.destroy()
  far.destroy()
  server.close()
  return bytes
}
/** The same handshake message in records of this many bytes. */
function recut(hello: Buffer, size: number): Buffer {
  const message = hello.subarray(5)
  const pieces = Array.from({ length: Math.ceil(message.length / size) }, (_, at) => message.subarray(at * size, at * size + size))
  return Buffer.concat(pieces.flatMap((piece) => [Buffer.from([22, 3, 1, piece.length >> 8, piece.length & 255]), piece]))
}
const vector = (width: number, bytes: Buffer): Buffer => {
  const length = Buffer.alloc(width)
  length.writeUIntBE(bytes.length, 0, width)
  return Buffer.concat([length, bytes])
}
const extension = (type: number, data: Buffer): Buffer => Buffer.concat([Buffer.from([type >> 8, type & 255]), vector(2, data)])
const sni = (...names: string[]): Buffer => extension(0, vector(2, Buffer.concat(names.map((name) => Buffer.concat([Buffer.from([0]), vector(2, Buffer.from(name, 'latin1'))])))))
function made(extensions: Buffer | null, { session = Buffer.alloc(0), ciphers = Buffer.from([0x13, 1]), tail = Buffer.alloc(0) } = {}): Buffer {
  const body = Buffer.concat([Buffer.from([3, 3]), Buffer.alloc(32), vector(1, session), vector(2, ciphers), Buffer.from([1, 0]), ...(extensions === null ? [] : [vector(2, extensions)]), tail])
  const message = Buffer.concat([Buffer.from([1]), vector(3, body)])
  return recut(Buffer.concat([Buffer.alloc(5), message]), 16_384)
}

describe('a ClientHello', () => {
  it('of a real client names its server, at every cut and in records of every size', async () => {
    for (const hello of [await helloFor(NAME), await helloFor(NAME, { maxVersion: 'TLSv1.2' }), await helloFor(NAME, { ALPNProtocols: ['h2', 'http/1.1'] })]) {
      for (let cut = 1; cut < hello.length; cut++) expect(judge(hello.subarray(0, cut), NAME)).toBe('more')
      expect(judge(hello, NAME)).toBe('tls')
      expect(judge(Buffer.concat([hello, Buffer.from('whatever follows')]), NAME)).toBe('tls')
      expect(judge(hello, 'docs.corp.test')).toBe('foreign')
      for (const size of [1, 2, 3, 7, 100]) {
        const cut = recut(hello, size)
        expect(judge(cut, NAME)).toBe('tls')
        expect(judge(cut.subarray(0, cut.length - 1), NAME)).toBe('more')
      }
    }
  })
  it('that names no server, another, or one in another spelling, is told apart', async () => {
    expect(judge(await helloFor(undefined), NAME)).toBe('foreign')
    expect(judge(await helloFor('evil.test'), NAME)).toBe('foreign')
    expect(judge(made(sni('WIKI.corp.TEST.')), NAME)).toBe('tls')
    expect(judge(made(sni(`${NAME}.evil.test`)), NAME)).toBe('foreign')
    expect(judge(made(sni(`${NAME}\0.evil.test`)), NAME)).toBe('foreign')
    expect(readClientHello(made(null))).toEqual({ kind: 'hello', serverName: null })
    expect(readClientHello(made(Buffer.alloc(0)))).toEqual({ kind: 'hello', serverName: null })
  })
  it('that is malformed is never taken for one', () => {
    const wrong = [
      made(sni(NAME, 'evil.test')), made(Buffer.concat([sni('evil.test'), sni(NAME)])), made(Buffer.concat([sni(NAME), sni(NAME)])), made(sni('')), made(extension(0, Buffer.alloc(0))),
      made(extension(0, vector(2, Buffer.concat([Buffer.from([1]), vector(2, Buffer.from(NAME))])))), made(Buffer.concat([sni(NAME), Buffer.from([0, 5, 0, 9])])), made(sni(NAME), { tail: Buffer.from([0]) }),
      made(sni(NAME), { session: Buffer.alloc(33) }), made(sni(NAME), { ciphers: Buffer.alloc(0) }), Buffer.from([22, 3, 1, 0, 0]), Buffer.from([22, 3, 1, 0x40, 1]), Buffer.from([22, 3, 1, 0, 4, 2, 0, 0, 4]), Buffer.from([22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff]),
      Buffer.from([22, 2]), Buffer.concat([Buffer.from([22, 3, 1, 0, 5, 1, 0, 0, 40, 3]), Buffer.from([23, 3, 1, 0, 1])]),
    ]
    for (const bytes of wrong) expect(judge(bytes, NAME)).toBe('foreign')
    const good = made(sni(NAME))
    // Whatever byte is changed: it is judged, and nothing is thrown.
    for (let at = 0; at < good.length; at++) {
      for (const value of [0, 1, 0x7f, 0xff]) {
        const changed = Buffer.from(good)
        changed[at] = value
        expect(['more', 'tls', 'other', 'foreign']).toContain(judge(changed, NAME))
      }
    }
  })
  it('that is giant is given up, not kept', () => {
    expect(judge(made(Buffer.concat([sni(NAME), extension(21, Buffer.alloc(15_000))])), NAME)).toBe('tls')
    expect(judge(made(Buffer.concat([sni(NAME), extension(21, Buffer.alloc(17_000))])), NAME)).toBe('foreign')
    const endless = recut(Buffer.concat([Buffer.alloc(5), Buffer.from([1, 0, 0x3f, 0xff]), Buffer.alloc(16_000)]), 1)
    expect(judge(endless.subarray(0, MAX_FIRST_BYTES + 6), NAME)).toBe('foreign')
  })
})

describe('an HTTP request', () => {
  const head = (line: string, ...headers: string[]) => Buffer.from(`${[line, ...headers].join('\r\n')}\r\n\r\n`, 'latin1')
  it('for the name goes on, at every cut; for another it does not', () => {
    const request = head('POST /a?b HTTP/1.1', 'Accept: */*', 'hOsT: Wiki.Corp.Test:8080', 'Content-Length: 0')
    for (let cut = 1; cut < request.length; cut++) expect(judge(request.subarray(0, cut), NAME)).toBe('more')
    expect(judge(request, NAME)).toBe('http')
    expect(judge(request, 'docs.corp.test')).toBe('foreign')
  })
  it.each([
    ['GET / HTTP/1.1', ['Host: evil.test']], ['GET / HTTP/1.1', []], ['GET / HTTP/1.0', []], ['GET / HTTP/1.1', [`Host: ${NAME}`, 'Host: evil.test']], ['GET / HTTP/1.1', [`Host: ${NAME}`, `Host: ${NAME}`]],
    ['GET / HTTP/1.1', ['Host: evil.test', ` ${NAME}`]], ['GET / HTTP/1.1', ['Host : wiki.corp.test']], ['GET / HTTP/1.1', ['X: y', `\tHost: ${NAME}`]], ['GET http://evil.test/ HTTP/1.1', [`Host: ${NAME}`]], [`GET http://${NAME}@evil.test/ HTTP/1.1`, [`Host: ${NAME}`]],
    ['CONNECT evil.test:80 HTTP/1.1', [`Host: ${NAME}`]], ['gEt / HTTP/1.1', ['Host: evil.test']], ['m!#$%&*+-.^_`|~ / HTTP/1.1', ['Host: evil.test']], ['GET / HTTP/1.1', ['Host: 127.64.1.2']], ['GET / HTTP/1.1', [`Host: ${NAME}.evil.test`]], ['GET / HTTP/1.1', [`Host: evil.test#${NAME}`]],
  ])('that is not clearly for the name is refused: %s %j', (line, headers) => {
    expect(judge(head(line, ...headers), NAME)).toBe('foreign')
  })
  it('in absolute form for the name goes on', () => {
    expect(judge(head(`GET http://${NAME}:80/x HTTP/1.1`, `Host: ${NAME}`), NAME)).toBe('http')
  })
  it('whose head does not end is given up', () => {
    expect(judge(Buffer.from(`GET / HTTP/1.1\r\nHost: ${NAME}\r\nX: ${'x'.repeat(MAX_FIRST_BYTES)}`), NAME)).toBe('foreign')
    expect(judge(Buffer.from('G'.repeat(MAX_FIRST_BYTES)), NAME)).toBe('foreign')
  })
})

describe('what no web page can speak', () => {
  it.each([
    ['SSH', 'SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n'], ['SMTP', 'EHLO laptop\r\n'], ['PostgreSQL', '\0\0\0\x08\x04\xd2\x16\x2f'], ['Redis', '*1\r\n$4\r\nPING\r\n'], ['MQTT', '\x10\x0c\0\x04MQTT'], ['RDP', '\x03\0\0\x13'], ['HTTP/2 in the clear', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ])('goes on: %s', (_, text) => {
    expect(judge(Buffer.from(text, 'latin1'), NAME)).toBe('other')
  })
})
