// Origins that answer the HTTP proxy with what is no HTTP, or almost none, and programs that talk noise. Whoever is concerned hears of it; the agent goes on.
import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { closeAll, rawClient, serveTcp, startScene } from './tunnel-under-test.ts'

afterEach(closeAll)

describe('an origin that answers', () => {
  it.each<[string, string]>([
    ['a reason with control characters', 'HTTP/1.1 200 \u0001OK\r\nContent-Length: 2\r\n\r\nhi'], ['a reason with an escape', 'HTTP/1.1 200 \u001b[31mOK\r\nContent-Length: 2\r\n\r\nhi'],
    ['a status below a hundred', 'HTTP/1.1 099 No\r\nContent-Length: 2\r\n\r\nhi'], ['status zero', 'HTTP/1.1 000 No\r\n\r\n'], ['a status of four digits', 'HTTP/1.1 2000 No\r\n\r\n'],
    ['that it switches protocols', 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello'], ['a hundred informational answers', `${'HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n'.repeat(100)}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi`],
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\nhello'], ['length and chunks', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n'],
    ['a header with a null byte', 'HTTP/1.1 200 OK\r\nX: a\u0000b\r\nContent-Length: 2\r\n\r\nhi'], ['a header without a name', 'HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 2\r\n\r\nhi'], ['headers without end', `HTTP/1.1 200 OK\r\n${'X: y\r\n'.repeat(20_000)}`],
    ['a chunk that is none', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n'], ['trailers', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Trailer: y\r\n\r\n'],
    ['a header twice', 'HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nhi'], ['less than it said', 'HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nhi'], ['another protocol', 'SSH-2.0-OpenSSH_9.2\r\n'], ['nothing', ''],
  ])('%s hurts nobody', async (_what, answer) => {
    const odd = await serveTcp((socket) => {
      socket.once('data', () => socket.end(Buffer.from(answer, 'latin1')))
    })
    const fine = await serveTcp((socket) => {
      socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine'))
    })
    const scene = await startScene()
    const client = await rawClient(scene.tunnel.httpPort)
    client.socket.write(`GET http://127.0.0.1:${odd}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
    await client.closed
    const heard = client.received().toString('latin1')
    expect(heard).toMatch(/^(HTTP\/1\.1 (200|502) |$)/)
    expect(heard).not.toMatch(/[\u0000\u0001\u001b]/)
    const other = await rawClient(scene.tunnel.httpPort)
    other.socket.write(`GET http://127.0.0.1:${fine}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
    await other.closed
    expect(other.received().toString()).toMatch(/fine$/)
  })
})

describe('noise', () => {
  it('on either port, whole or in pieces, ends that connection and nothing else', async () => {
    const fine = await serveTcp((socket) => {
      socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine'))
    })
    const scene = await startScene()
    const words = fc.constantFrom('GET ', 'CONNECT ', 'http://', '127.0.0.1:9', ' HTTP/1.1', '\r\n', '\r\n\r\n', 'Host: x', 'Content-Length: -1', 'Transfer-Encoding: chunked', 'Connection: Upgrade, HTTP2-Settings', 'ffffffffff\r\n', '\u0005\u0001\u0000', '\u0005\u0001\u0000\u0003\u00ff', '[::1]:1', '%00', '\u0000', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
    const piece = fc.oneof(words, fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes).toString('latin1')))
    await fc.assert(fc.asyncProperty(fc.array(piece, { minLength: 1, maxLength: 8 }), fc.boolean(), async (pieces, socks) => {
      const client = await rawClient(socks ? scene.tunnel.socksPort : scene.tunnel.httpPort)
      for (const each of pieces) client.socket.write(Buffer.from(each, 'latin1'))
      client.socket.end()
      await client.closed
    }), { numRuns: 150 })
    const other = await rawClient(scene.tunnel.httpPort)
    other.socket.write(`GET http://127.0.0.1:${fine}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
    await other.closed
    expect(other.received().toString()).toMatch(/fine$/)
  })
})
