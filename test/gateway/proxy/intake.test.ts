// Memory that upstreams are read into is used again: no byte may turn up in another tunnel, however slowly clients read.
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { afterEach, describe, expect, it } from 'vitest'
import { createIntake } from '../../../gateway/proxy/intake.ts'
import { cleanUp, connectTo, later, openHttp1, openHttp2, readUntil, startGate } from './gate-under-test.ts'

afterEach(cleanUp)

const BYTES = 3_000_000

/** Sends each connection bytes of its own, in pieces of changing size; the first line says whose. */
async function startTellers() {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy())
    socket.once('data', (name) => {
      const letter = name[0] ?? 0
      let sent = 0
      const more = () => {
        while (sent < BYTES) {
          const piece = Buffer.alloc(Math.min(BYTES - sent, 1 + (sent * 7919 + letter * 104_729) % 200_000), letter)
          sent += piece.length
          if (!socket.write(piece)) return
        }
        socket.end()
      }
      socket.on('drain', more)
      more()
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  later(() => new Promise<void>((resolve) => { server.close(() => resolve()) }))
  return (server.address() as AddressInfo).port
}

/** Reads to the end with a halt after each piece, so that writes pile up in the gateway. */
async function readSlowly(stream: Duplex, letter: number): Promise<string> {
  const hash = createHash('sha256')
  stream.write(Buffer.from([letter]))
  for await (const chunk of stream) {
    hash.update(chunk as Buffer)
    for (let turn = letter % 4; turn > 0; turn--) await new Promise((resolve) => { setImmediate(resolve) })
  }
  return hash.digest('hex')
}

describe('what an upstream sends', () => {
  it('comes whole, and to its own client only, through 12 tunnels at once over HTTP/2 and HTTP/1.1', async () => {
    const port = await startTellers()
    const gate = await startGate(`services: [{name: tellers, protocol: tcp, match: [127.0.0.1], ports: [${port}], addresses: [127.0.0.1]}]\npolicies: [{name: staff, services: [tellers], tags: {all: [compliant]}, action: allow}]`)
    const session = openHttp2(gate, gate.agent)
    const letters = Array.from({ length: 12 }, (_, n) => 65 + n)
    const hashes = await Promise.all(letters.map(async (letter) => {
      if (letter % 2 === 0) return readSlowly((await connectTo(session, `127.0.0.1:${port}`)).stream, letter)
      const socket = await openHttp1(gate, gate.agent)
      socket.write(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`)
      await readUntil(socket, '\r\n\r\n')
      return readSlowly(socket, letter)
    }))
    expect(hashes).toEqual(letters.map((letter) => createHash('sha256').update(Buffer.alloc(BYTES, letter)).digest('hex')))
  })

  it('is held, and the socket read no further, until there is somebody to take it', () => {
    const { onread, handTo } = createIntake()
    const taken: string[] = []
    const read = (text: string) => {
      const buffer = onread.buffer()
      buffer.set(Buffer.from(text))
      return onread.callback(text.length, buffer)
    }
    expect(read('SSH-2.0-early')).toBe(false)
    handTo((piece) => taken.push(piece.toString()) > 0)
    expect(read(' late')).toBe(true)
    expect(taken).toEqual(['SSH-2.0-early', ' late'])
  })

  it('is given once, though whoever takes what came early hands the socket on', () => {
    const { onread, handTo } = createIntake()
    const taken: string[] = []
    const buffer = onread.buffer()
    buffer.set(Buffer.from('early'))
    onread.callback(5, buffer)
    handTo((piece) => {
      taken.push(`first ${piece.toString()}`)
      handTo((next) => taken.push(`second ${next.toString()}`) > 0)
      return true
    })
    onread.callback(5, buffer)
    expect(taken).toEqual(['first early', 'second early'])
  })

  it('uses memory again only once its piece was released, and holds little while it is idle', () => {
    const { onread, handTo } = createIntake()
    const releases: (() => void)[] = []
    handTo((_, release) => releases.push(release) > 0)
    const small = onread.buffer()
    expect(small.length).toBeLessThanOrEqual(2_048)
    onread.callback(small.length, small)
    const large = onread.buffer()
    expect(large.length).toBe(65_536)
    onread.callback(large.length, large)
    expect(onread.buffer().buffer).not.toBe(large.buffer)
    releases[1]?.()
    const again = onread.buffer()
    expect(again.buffer).toBe(large.buffer)
    onread.callback(10, again)
    expect(onread.buffer().length).toBe(small.length)
  })
})
