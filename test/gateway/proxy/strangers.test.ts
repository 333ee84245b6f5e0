// What strangers leave behind: nothing. Many connections that say nothing and many broken handshakes, and the heap is as it was.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterEach, expect, it } from 'vitest'
import { cleanUp, startGate, until } from './gate-under-test.ts'

afterEach(cleanUp)

const A_ROUND = 1_500
/** Of warm code and caches; what is kept of connections would be several times this after two rounds. */
const SLACK_BYTES = 6e6

it('thousands of strangers leave no memory behind, from however many addresses they come', async () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const gate = await startGate('services: []\npolicies: []\n', { limits: { handshakeMs: 60_000, strangerMs: 60_000 } })
  const held = () => {
    for (let turn = 0; turn < 3; turn++) collect()
    const { heapUsed, external } = process.memoryUsage()
    return heapUsed + external
  }
  const round = async () => {
    const open = new Set<Socket>()
    for (let n = 0; n < A_ROUND; n++) {
      const socket = connect({ host: '127.0.0.1', port: gate.proxy.port, localAddress: `127.${1 + n % 20}.${n % 200}.${1 + n % 99}` })
      open.add(socket)
      socket.on('error', () => socket.destroy())
      socket.once('close', () => open.delete(socket))
      socket.resume()
      // A hello that breaks off, from every other one.
      if (n % 2 === 0) socket.write(Buffer.from('160301020001', 'hex'))
      if (n % 100 === 0) await once(socket, 'connect')
    }
    await until(async () => (await gate.metrics.text()).includes(`sallyport_unproved_connections ${A_ROUND}`))
    for (const socket of open) socket.destroy()
    await until(async () => open.size === 0 && (await gate.metrics.text()).includes('sallyport_unproved_connections 0'))
  }
  await round()
  const first = held()
  await round()
  await round()
  expect(held() - first).toBeLessThan(SLACK_BYTES)
}, 120_000)
