import { createServer } from 'node:http'
import { connect, createServer as createTcpServer } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Decision } from '../../../protocol/decisions.ts'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { cleanUp, later, listen, openHttp1, startGate, until, type Gate } from './gate-under-test.ts'
import { openFrames, sendRaw, type Field } from './http2-frames.ts'

/** Everything that the upstream was asked, as its own parser read it; and every byte, as it came. */
let asked: { line: string; body: string; headers: Record<string, unknown> }[] = []
let bytes = ''
let gate: Gate

// The upstream counts as hostile to itself: it takes what most parsers would not.
beforeEach(async () => {
  asked = []
  bytes = ''
  const lenient = createServer({ insecureHTTPParser: true, requireHostHeader: false }, (request, response) => {
    let body = ''
    request.on('data', (chunk: Uint8Array) => {
      body += Buffer.from(chunk).toString('latin1')
    })
    request.on('end', () => {
      asked.push({ line: `${request.method} ${request.url}`, body, headers: request.headers })
      response.end('ok')
    })
  })
  const port = await listen(lenient)
  const tap = createTcpServer((socket) => {
    const far = connect(port, '127.0.0.1')
    socket.on('data', (chunk) => {
      bytes += chunk.toString('latin1')
    })
    for (const [from, to] of [[socket, far], [far, socket]] as const) {
      from.on('error', () => to.destroy())
      from.pipe(to)
    }
  })
  later(() => {
    lenient.closeAllConnections()
    lenient.close()
    tap.close()
  })
  gate = await startGate(`
services:
  - {name: public, protocol: https, match: [web.test], paths: [/public], upstream: http://127.0.0.1:${await listen(tap)}}
  - {name: secret, protocol: https, match: [web.test], paths: [/secret], upstream: http://127.0.0.1:1}
policies: [{name: staff, services: [public], tags: {all: [compliant]}, action: allow}]`)
})
afterEach(cleanUp)

const decisions = async (): Promise<Decision[]> => {
  await gate.audit.close()
  return readFileSync(join(gate.directory, 'decisions.jsonl'), 'utf8').trim().split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as Decision)
}
/** What must hold whatever was sent: each request at the upstream was decided and allowed, by itself, and none is for what is denied. */
async function nothingCrossed() {
  // What was framed as a body is one; beside bodies there is no head but those that were read. The last may still be on its way from the wire to its reader.
  const heads = () => asked.reduce((rest, { body }) => rest.replace(body, ''), bytes)
  await until(() => (heads().match(/ HTTP\/1\.1\r\n/g)?.length ?? 0) === asked.length)
  const allowed = (await decisions()).filter((each) => each.allowed)
  expect(asked.length).toBeLessThanOrEqual(allowed.length)
  expect(allowed.every(({ service }) => service === 'public')).toBe(true)
  for (const { line, headers } of asked) {
    expect(line).toMatch(/^[A-Z]+ \/public/)
    expect(headers['host']).toBe('web.test')
    expect(Object.keys(headers).filter((name) => /^(transfer-encoding|content-length)$/.test(name)).length).toBeLessThan(2)
  }
  expect(heads()).not.toContain('/secret')
}

/** Sends bytes, then an honest request, and waits for the end of the connection. @returns the statuses that came back */
async function send(text: string): Promise<number[]> {
  const socket = await openHttp1(gate, gate.browser)
  let read = ''
  socket.on('data', (chunk: Uint8Array) => {
    read += Buffer.from(chunk).toString('latin1')
  })
  socket.write(Buffer.from(`${text}GET /public/last HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n`, 'latin1'))
  await until(() => socket.closed)
  return [...read.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => Number(status))
}
const hidden = 'GET /secret HTTP/1.1\r\nHost: web.test\r\n\r\n'
const post = (headers: string, body = '') => `POST /public HTTP/1.1\r\nHost: web.test\r\n${headers}\r\n\r\n${body}`

const http1: Record<string, string> = {
  'CL.TE': post('Content-Length: 6\r\nTransfer-Encoding: chunked', `0\r\n\r\n${hidden}`),
  'TE.CL': post('Transfer-Encoding: chunked\r\nContent-Length: 4', `2d\r\n${hidden}\r\n0\r\n\r\n`),
  'TE with a name before the colon': post('Transfer-Encoding : chunked', `0\r\n\r\n${hidden}`),
  'TE of another name': post('Transfer-Encoding: xchunked\r\nContent-Length: 5', `0\r\n\r\n${hidden}`),
  'TE that is not last': post('Transfer-Encoding: chunked, identity', `0\r\n\r\n${hidden}`),
  'TE after identity': post('Transfer-Encoding: identity, chunked', `0\r\n\r\n${hidden}`),
  'TE twice': post('Transfer-Encoding: chunked\r\nTransfer-Encoding: identity', `0\r\n\r\n${hidden}`),
  'TE twice the other way': post('Transfer-Encoding: identity\r\nTransfer-Encoding: chunked', `0\r\n\r\n${hidden}`),
  'TE chunked twice': post('Transfer-Encoding: chunked, chunked', `0\r\n\r\n${hidden}`),
  'TE quoted': post('Transfer-Encoding: "chunked"\r\nContent-Length: 5', `0\r\n\r\n${hidden}`),
  'TE with a vertical tab': post('Transfer-Encoding: \x0bchunked\r\nContent-Length: 5', `0\r\n\r\n${hidden}`),
  'TE with a NUL': post('Transfer-Encoding: chunked\0\r\nContent-Length: 5', `0\r\n\r\n${hidden}`),
  'TE in folded lines': post('Transfer-Encoding:\r\n chunked\r\nContent-Length: 5', `0\r\n\r\n${hidden}`),
  'TE hidden in another header\'s folded line': post('X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 5', `0\r\n\r\n${hidden}`),
  'TE behind a bare CR': post('X: y\rTransfer-Encoding: chunked\r\nContent-Length: 5', `0\r\n\r\n${hidden}`),
  'TE behind a bare LF': post('X: y\nTransfer-Encoding: chunked\r\nContent-Length: 5', `0\r\n\r\n${hidden}`),
  'TE under HTTP/1.0': `POST /public HTTP/1.0\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n${hidden}`,
  'CL with an underscore': post('Content_Length: 43\r\nTransfer_Encoding: chunked\r\nContent-Length: 0', hidden),
  'CL twice, alike': post('Content-Length: 5\r\nContent-Length: 5', `12345${hidden}`),
  'CL twice, otherwise': post('Content-Length: 5\r\nContent-Length: 0', `12345${hidden}`),
  'CL as a list': post('Content-Length: 5, 5', `12345${hidden}`),
  'CL with a plus': post('Content-Length: +5', `12345${hidden}`),
  'CL with a minus': post('Content-Length: -5', hidden),
  'CL in hex': post('Content-Length: 0x5', `12345${hidden}`),
  'CL beyond 64 bits': post('Content-Length: 18446744073709551617', hidden),
  'CL with a name before the colon': post('Content-Length : 5', `12345${hidden}`),
  'CL that is empty': post('Content-Length:', hidden),
  'CL folded': post('Content-Length:\r\n 43', hidden),
  'CL taken away by Connection': post('Content-Length: 43\r\nConnection: content-length', hidden),
  'host taken away by Connection': post('Connection: host, x-forwarded-for, sallyport-device-id\r\nContent-Length: 0'),
  'GET with a body': `GET /public HTTP/1.1\r\nHost: web.test\r\nContent-Length: 41\r\n\r\n${hidden}`,
  'bare LF everywhere': `POST /public HTTP/1.1\nHost: web.test\nContent-Length: 0\n\n${hidden}`,
  'bare LF before the body': `POST /public HTTP/1.1\r\nHost: web.test\r\nContent-Length: 0\n\n${hidden}`,
  'bare CR as the end of a line': `POST /public HTTP/1.1\rHost: web.test\r\nContent-Length: 0\r\n\r\n${hidden}`,
  'chunk size with a plus': post('Transfer-Encoding: chunked', `+0\r\n\r\n${hidden}`),
  'chunk size in 0x': post('Transfer-Encoding: chunked', `0x0\r\n\r\n${hidden}`),
  'chunk size with a space': post('Transfer-Encoding: chunked', ` 0\r\n\r\n${hidden}`),
  'chunk size beyond 64 bits': post('Transfer-Encoding: chunked', `10000000000000000\r\n${hidden}`),
  'chunk size ended by LF': post('Transfer-Encoding: chunked', `0\n\r\n${hidden}`),
  'chunk extension ended by LF': post('Transfer-Encoding: chunked', `2;x\nab\r\n2d\r\n${hidden}\r\n0\r\n\r\n`),
  'chunk extension with a bare CR': post('Transfer-Encoding: chunked', `1;x\ry\r\na\r\n0\r\n\r\n${hidden}`),
  'chunk longer than it says': post('Transfer-Encoding: chunked', `1\r\nab\r\n0\r\n\r\n${hidden}`),
  'chunk without its CRLF': post('Transfer-Encoding: chunked', `1\r\na0\r\n\r\n${hidden}`),
  'trailers that frame a body': post('Transfer-Encoding: chunked\r\nTrailer: Content-Length', `0\r\nContent-Length: 43\r\nHost: other.test\r\n\r\n${hidden}`),
  'a header name with a NUL': post('Content-Length\0: 5\r\nContent-Length: 0', hidden),
  'a header name with a space': post('Content Length: 5\r\nContent-Length: 0', hidden),
  'a header without a name': post(': x\r\nContent-Length: 0', hidden),
  'a header without a colon': post('Content-Length 5\r\nContent-Length: 0', hidden),
  'a space before the first header': `POST /public HTTP/1.1\r\n Host: web.test\r\nHost: web.test\r\nContent-Length: 0\r\n\r\n${hidden}`,
  'two hosts': `GET /public HTTP/1.1\r\nHost: web.test\r\nHost: other.test\r\n\r\n`,
  'no host': 'GET /public HTTP/1.1\r\n\r\n',
  'a host with a user': 'GET /public HTTP/1.1\r\nHost: a@web.test\r\n\r\n',
  'a host with a path': 'GET /public HTTP/1.1\r\nHost: web.test/secret\r\n\r\n',
  'a host as a list': 'GET /public HTTP/1.1\r\nHost: web.test, other.test\r\n\r\n',
  'absolute form': 'GET http://web.test/secret HTTP/1.1\r\nHost: web.test\r\n\r\n',
  'absolute form of another host': 'GET http://other.test/public HTTP/1.1\r\nHost: web.test\r\n\r\n',
  'a target with a space': 'GET /public /secret HTTP/1.1\r\nHost: web.test\r\n\r\n',
  'a target with a version': 'GET /public HTTP/1.1 HTTP/1.1\r\nHost: web.test\r\n\r\n',
  'a target with a fragment': 'GET /public#/../secret HTTP/1.1\r\nHost: web.test\r\n\r\n',
  'a target with a tab': 'GET /public\t/secret HTTP/1.1\r\nHost: web.test\r\n\r\n',
  'a target that climbs': 'GET /public/../secret HTTP/1.1\r\nHost: web.test\r\n\r\n',
  'a target that climbs, encoded': 'GET /public/%2e%2e/secret HTTP/1.1\r\nHost: web.test\r\n\r\n',
  'a target with a high byte': 'GET /public/\xff HTTP/1.1\r\nHost: web.test\r\n\r\n',
  'HTTP/0.9': 'GET /secret\r\n',
  'HTTP/0.9 after a request': `GET /public HTTP/1.1\r\nHost: web.test\r\n\r\nGET /secret\r\n`,
  'HTTP/2 in words': 'GET /public HTTP/2.0\r\nHost: web.test\r\n\r\n',
  'a preface of HTTP/2': 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  'TRACE': 'TRACE /public HTTP/1.1\r\nHost: web.test\r\n\r\n',
  'an upgrade to HTTP/2': `GET /public HTTP/1.1\r\nHost: web.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n`,
  'an upgrade with a body': `GET /public HTTP/1.1\r\nHost: web.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 41\r\n\r\n${hidden}`,
  'an upgrade that the upstream does not take, with more behind it': `GET /public HTTP/1.1\r\nHost: web.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n${hidden}`,
  'a wish to go on with a request behind it': post('Expect: 100-continue\r\nContent-Length: 43', hidden),
  'a wish that nobody knows': post('Expect: 200-ok\r\nContent-Length: 0'),
  'a pipelined request that is denied': `GET /public/a HTTP/1.1\r\nHost: web.test\r\n\r\n${hidden}GET /public/b HTTP/1.1\r\nHost: web.test\r\n\r\n`,
}

describe('over HTTP/1.1 nothing crosses a decision by', () => {
  for (const [name, text] of Object.entries(http1)) {
    it(name, async () => {
      const statuses = await send(text)
      await nothingCrossed()
      // Never more answers than decisions and refusals to read: at most one each for what was sent, what was hidden in it, and the last.
      expect(statuses.length).toBeLessThanOrEqual(5)
    })
  }
  it('honest requests, which all arrive', async () => {
    expect(await send(`${post('Content-Length: 5', '12345')}${post('Transfer-Encoding: chunked', '5\r\nabcde\r\n0\r\n\r\n')}`)).toEqual([200, 200, 200])
    // Answers keep their order; what is asked at the same time does not.
    expect(asked.map(({ line, body }) => `${line} ${body}`).toSorted()).toEqual(['GET /public/last ', 'POST /public 12345', 'POST /public abcde'])
    await nothingCrossed()
  })
})

const basic: Field[] = [[':method', 'POST'], [':scheme', 'https'], [':authority', 'web.test'], [':path', '/public']]
const without = (name: string) => basic.filter(([each]) => each !== name)
const smuggled = 'x\r\n\r\nGET /secret HTTP/1.1\r\nHost: web.test\r\n\r\n'
const http2: Record<string, { fields: Field[]; data?: string; trailers?: Field[] }> = {
  'a value with a request in it': { fields: [...basic, ['x', smuggled]] },
  'a value with LF': { fields: [...basic, ['x', 'a\ncontent-length: 5']] },
  'a value with CR': { fields: [...basic, ['x', 'a\rcontent-length: 5']] },
  'a value with NUL': { fields: [...basic, ['x', 'a\0b']] },
  'a name with a request in it': { fields: [...basic, [`x: ${smuggled}`, 'y']] },
  'a name with a colon': { fields: [...basic, ['transfer-encoding: chunked', 'x']] },
  'a name with a space': { fields: [...basic, ['content-length ', '5']] },
  'a name in capitals': { fields: [...basic, ['Content-Length', '5']] },
  'an empty name': { fields: [...basic, ['', 'x']] },
  'transfer-encoding': { fields: [...basic, ['transfer-encoding', 'chunked']], data: `0\r\n\r\n${hidden}` },
  'transfer_encoding': { fields: [...basic, ['transfer_encoding', 'chunked']], data: `0\r\n\r\n${hidden}` },
  'connection': { fields: [...basic, ['connection', 'content-length']], data: hidden },
  'keep-alive': { fields: [...basic, ['keep-alive', '1']] },
  'upgrade': { fields: [...basic, ['upgrade', 'websocket']] },
  'te': { fields: [...basic, ['te', 'chunked']] },
  'a content-length that is too small': { fields: [...basic, ['content-length', '1']], data: hidden },
  'a content-length that is too large': { fields: [...basic, ['content-length', '100']], data: 'x' },
  'a content-length that is no number': { fields: [...basic, ['content-length', '1x']], data: 'x' },
  'a content-length with a request in it': { fields: [...basic, ['content-length', `0\r\n\r\n${hidden}`]] },
  'two content-lengths': { fields: [...basic, ['content-length', '1'], ['content-length', '0']], data: 'x' },
  'a path with a request in it': { fields: [...without(':path'), [':path', `/public HTTP/1.1\r\nHost: web.test\r\n\r\n${hidden}`]] },
  'a path with a space': { fields: [...without(':path'), [':path', '/public /secret']] },
  'a path with a version': { fields: [...without(':path'), [':path', '/secret HTTP/1.1']] },
  'a path with a tab': { fields: [...without(':path'), [':path', '/public\t']] },
  'a path with a fragment': { fields: [...without(':path'), [':path', '/public#x']] },
  'a path that climbs': { fields: [...without(':path'), [':path', '/public/../secret']] },
  'a path that is a URL': { fields: [...without(':path'), [':path', 'http://web.test/secret']] },
  'a path that is a star': { fields: [...without(':path'), [':path', '*']] },
  'a path that is empty': { fields: [...without(':path'), [':path', '']] },
  'a path with high bytes': { fields: [...without(':path'), [':path', '/public/\xff']] },
  'two paths': { fields: [...basic, [':path', '/secret']] },
  'a path among the ordinary fields': { fields: [...without(':path'), ['x', 'y'], [':path', '/public']] },
  'no path': { fields: without(':path') },
  'a method with a request in it': { fields: [...without(':method'), [':method', `GET /secret HTTP/1.1\r\nHost: web.test\r\n\r\nGET`]] },
  'a method with a space': { fields: [...without(':method'), [':method', 'GET /secret']] },
  'two methods': { fields: [...basic, [':method', 'GET']] },
  'a scheme with a URL in it': { fields: [...without(':scheme'), [':scheme', 'http://web.test/secret?']] },
  'a scheme that is not https': { fields: [...without(':scheme'), [':scheme', 'http']] },
  'an authority with a header in it': { fields: [...without(':authority'), [':authority', 'web.test\r\nx: y']] },
  'an authority with a user': { fields: [...without(':authority'), [':authority', 'user@web.test']] },
  'an authority with a path': { fields: [...without(':authority'), [':authority', 'web.test/secret']] },
  'two authorities': { fields: [...basic, [':authority', 'other.test']] },
  'another host': { fields: [...basic, ['host', 'other.test']] },
  'two hosts': { fields: [...without(':authority'), ['host', 'web.test'], ['host', 'other.test']] },
  'no host': { fields: without(':authority') },
  'a protocol that was not offered': { fields: [...without(':method'), [':method', 'CONNECT'], [':protocol', 'websocket']] },
  'an unknown pseudo field': { fields: [...basic, [':secret', 'x']] },
  'trailers with a pseudo field': { fields: basic, data: 'x', trailers: [[':path', '/secret']] },
  'trailers with transfer-encoding': { fields: basic, data: 'x', trailers: [['transfer-encoding', 'chunked']] },
  'trailers with a request in them': { fields: basic, data: 'x', trailers: [['x', smuggled]] },
  'trailers with a content-length': { fields: basic, data: 'x', trailers: [['content-length', '43']] },
}

describe('over HTTP/2 nothing crosses a decision by', () => {
  for (const [name, request] of Object.entries(http2)) {
    it(name, async () => {
      await sendRaw(await openFrames(gate, gate.browser), request)
      await nothingCrossed()
    })
  }
  it('an honest request, which arrives', async () => {
    expect(await sendRaw(await openFrames(gate, gate.browser), { fields: [...basic, ['content-length', '5']], data: '12345' })).toBe('ok')
    expect(asked).toMatchObject([{ line: 'POST /public', body: '12345', headers: { 'content-length': '5' } }])
    await nothingCrossed()
  })
})
