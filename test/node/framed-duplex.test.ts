// Frames over a socket: whatever pieces they come in, an end is told from a break, and nonsense ends the connection.
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { FramedDuplex } from '../../node/framed-duplex.ts'

const open: { destroy(): unknown }[] = []
afterEach(() => {
  for (const each of open.splice(0)) each.destroy()
})

/** One end in frames, the other as it comes. */
async function pair(options: { head?: Uint8Array; onControl?: (text: string) => void } = {}) {
  const server = createServer({ allowHalfOpen: true })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const raw = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', allowHalfOpen: true })
  const [socket] = await once(server, 'connection') as [Socket]
  server.close()
  raw.on('error', () => raw.destroy())
  open.push(raw, socket)
  const framed = new FramedDuplex(socket, { ...options, reset: () => { socket.resetAndDestroy() } })
  let text = ''
  framed.on('data', (chunk) => {
    text += String(chunk)
  })
  const failed = new Promise<string>((resolve) => {
    framed.on('error', ({ message }) => resolve(message))
  })
  const ended = new Promise<void>((resolve) => {
    framed.on('end', resolve)
  })
  return { raw, framed, failed, ended, text: () => text }
}
const frame = (text: string, head = Buffer.byteLength(text)): Buffer => {
  const header = Buffer.alloc(4)
  header.writeUInt32BE(head)
  return Buffer.concat([header, Buffer.from(text)])
}
const end = Buffer.alloc(4)

describe('frames', () => {
  it('are read whole, byte by byte, several at once, and from what had been read before', async () => {
    const all = Buffer.concat([frame('one'), frame('two'), frame('x'.repeat(70_000)), end])
    const whole = await pair()
    whole.raw.write(all)
    await whole.ended
    expect(whole.text()).toBe(`onetwo${'x'.repeat(70_000)}`)
    const slow = await pair({ head: all.subarray(0, 2) })
    for (const byte of all.subarray(2, 40)) {
      slow.raw.write(Uint8Array.of(byte))
      await new Promise(setImmediate)
    }
    slow.raw.write(all.subarray(40))
    await slow.ended
    expect(slow.text()).toBe(whole.text())
  })
  it('that end without saying so have broken off, whether by an end of the connection or a reset', async () => {
    const cut = await pair()
    cut.raw.end(frame('half', 8))
    expect(await cut.failed).toContain('broke off')
    const quiet = await pair()
    quiet.raw.end(frame('whole frames, no end'))
    expect(await quiet.failed).toContain('broke off')
    const reset = await pair()
    reset.raw.resetAndDestroy()
    expect(await reset.failed).toMatch(/ECONNRESET|broke off/)
  })
  it('end one direction and leave the other open', async () => {
    const { raw, framed, ended } = await pair()
    raw.write(end)
    await ended
    let got = Buffer.alloc(0)
    raw.on('data', (chunk: Buffer) => {
      got = Buffer.concat([got, chunk])
    })
    framed.write('after')
    framed.end('wards')
    await once(raw, 'end')
    expect(got.toString('latin1')).toBe(`${frame('after').toString('latin1')}${frame('wards').toString('latin1')}${end.toString('latin1')}`)
  })
  it('carry a last word, after which nothing is taken', async () => {
    const said: string[] = []
    const { raw, failed, text } = await pair({ onControl: (word) => said.push(word) })
    raw.write(Buffer.concat([frame('{"code":"065"}', 0x8000_0000 + 14), frame('more')]))
    expect(await failed).toContain('cut the session')
    expect([said, text()]).toEqual([['{"code":"065"}'], ''])
    const teller = await pair()
    expect(teller.framed.tell('{}')).toBe(true)
    expect((await once(teller.raw, 'data') as [Buffer])[0].equals(frame('{}', 0x8000_0002))).toBe(true)
  })
  it.each([
    ['a last word of nothing', frame('', 0x8000_0000)], ['a last word without measure', frame('', 0xffff_ffff)], ['more after the end', Buffer.concat([end, frame('more')])], ['a second end', Buffer.concat([end, end])],
  ])('are refused: %s', async (_what, bytes) => {
    const { raw, failed, text } = await pair()
    raw.write(bytes)
    expect(await failed).toMatch(/breaks the framing|after its end/)
    expect(text()).toBe('')
  })
})
