// Bytes through the tunnel: half-close, reset, back-pressure.
import type { ServerHttp2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { relayTo } from './gateway-double.ts'
import { closeAll, connectThrough, eventually, serveTcp, startScene } from './tunnel-under-test.ts'

afterEach(closeAll)

/** Opens one tunnel whose far end the test holds. */
async function held() {
  let far: ServerHttp2Stream | undefined
  const scene = await startScene({ handle: (stream) => {
    far = stream
    stream.respond({ ':status': 200 })
  } })
  const client = await connectThrough(scene, 'a.corp.test:22')
  if (!far) throw new Error('no stream')
  return { scene, client, far }
}

describe('streams', () => {
  it('answers after the program has finished sending', async () => {
    const port = await serveTcp((socket) => {
      let text = ''
      socket.on('data', (chunk: Buffer) => {
        text += chunk.toString()
      })
      socket.on('end', () => socket.end(`got ${text}`))
    })
    const scene = await startScene({ handle: relayTo(() => port) })
    for (const target of ['a.corp.test:22', `127.0.0.1:${port}`]) {
      const client = await connectThrough(scene, target)
      client.socket.end('question')
      expect(await client.closed).toBe('clean')
      expect(client.body()).toBe('got question')
    }
  })

  it('lets the program send on after the far side has finished', async () => {
    const { client, far } = await held()
    let got = ''
    far.on('data', (chunk: Buffer) => {
      got += chunk.toString()
    })
    const ended = new Promise((resolve) => {
      far.on('end', () => resolve(null))
    })
    far.end('all I have')
    await client.ended
    expect(client.body()).toBe('all I have')
    client.socket.write('and ')
    client.socket.end('more')
    await ended
    expect(got).toBe('and more')
    expect(await client.closed).toBe('clean')
  })

  it('resets the program at once when its session is cut', async () => {
    const { client, far } = await held()
    far.write('half an ans')
    await eventually(() => client.body() === 'half an ans')
    far.destroy(new Error('cut'))
    expect(await client.closed).toBe('reset')
  })

  it('resets it too when the program had finished sending', async () => {
    const { client, far } = await held()
    client.socket.end('question')
    far.resume()
    await new Promise((resolve) => {
      far.on('end', () => resolve(null))
    })
    far.write('half')
    await eventually(() => client.body() === 'half')
    far.destroy(new Error('cut'))
    expect(await client.closed).toBe('reset')
  })

  it('says why a session was cut when the gateway tells', async () => {
    let far: ServerHttp2Stream | undefined
    const why = { decision: null, code: '064', reason: 'endpoint-quarantined', tags: [], message: 'This device is in quarantine.' }
    const scene = await startScene({ handle: (stream) => {
      far = stream
      stream.on('wantTrailers', () => stream.sendTrailers({ 'sallyport-denial': encodeURIComponent(JSON.stringify(why)) }))
      stream.respond({ ':status': 200 }, { waitForTrailers: true })
    } })
    const client = await connectThrough(scene, 'a.corp.test:22')
    far?.end('x')
    expect(await client.closed).toBe('reset')
    expect(scene.denials.map(({ code, message, destination }) => [code, message, destination])).toEqual([['064', why.message, 'a.corp.test:22']])
  })

  it('cancels the stream when the program goes away', async () => {
    const { client, far } = await held()
    const closed = new Promise((resolve) => {
      far.on('close', () => resolve(far.rstCode))
    })
    client.socket.resetAndDestroy()
    expect(await closed).toBe(2)
  })

  it('stops the far side when the program does not read, and loses nothing when it does', async () => {
    const { client, far } = await held()
    client.socket.pause()
    const size = 48 << 20
    let written = 0
    const pump = () => {
      while (written < size) {
        written += 65_536
        if (!far.write(Buffer.alloc(65_536, written / 65_536 & 255))) {
          far.once('drain', pump)
          return
        }
      }
      far.end()
    }
    pump()
    let before = -1
    await eventually(() => {
      const still = written === before
      before = written
      return still && written > 1 << 20
    })
    expect(written).toBeLessThan(size / 2)
    let received = 0
    client.socket.removeAllListeners('data')
    client.socket.on('data', (chunk: Buffer) => {
      received += chunk.length
    })
    client.socket.resume()
    await client.ended
    expect(received).toBe(size)
  })

  it('stops the program when the far side does not read, and loses nothing when it does', async () => {
    const { client, far } = await held()
    const size = 48 << 20
    const { socket }: { socket: Socket } = client
    let blocked = 0
    for (let sent = 0; sent < size; sent += 1 << 20) blocked = socket.write(Buffer.alloc(1 << 20)) ? 0 : socket.writableLength
    expect(blocked).toBeGreaterThan(size / 2)
    let received = 0
    far.on('data', (chunk: Buffer) => {
      received += chunk.length
    })
    const ended = new Promise((resolve) => {
      far.on('end', () => resolve(null))
    })
    socket.end()
    await ended
    expect(received).toBe(size)
  })

  it('carries on with other streams while one is not read', async () => {
    const { scene, client, far } = await held()
    client.socket.pause()
    for (let n = 0; n < 32; n += 1) far.write(Buffer.alloc(1 << 20))
    const port = await serveTcp((socket) => socket.pipe(socket))
    scene.gateway.handle = relayTo(() => port)
    const other = await connectThrough(scene, 'b.corp.test:22')
    other.socket.write('still here')
    await eventually(() => other.body() === 'still here')
    expect(scene.gateway.sessions.size).toBe(1)
  })
})
