// Ports that are chosen for good: what is wanted where it is free, else one that the system gives to nobody by chance.
import { existsSync, readFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { describe, expect, it } from 'vitest'
import { freePort } from '../../start/free-port.ts'

const RANGE = '/proc/sys/net/ipv4/ip_local_port_range'

describe('a free port', () => {
  it('is none of those that are handed out to whoever connects: it would be somebody\'s before it is used, or at the next start', async ({ skip }) => {
    if (!existsSync(RANGE)) return skip('needs Linux, which tells the range')
    const [from = 0, to = 0] = readFileSync(RANGE, 'utf8').trim().split(/\s+/).map(Number)
    for (const port of await Promise.all(Array.from({ length: 50 }, () => freePort()))) expect([port, port > 1_024 && (port < from || port > to)]).toEqual([port, true])
  })
  it('is the wanted one where nobody has it, and another where somebody has', async () => {
    const wanted = await freePort()
    expect(await freePort(wanted)).toBe(wanted)
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(wanted, '127.0.0.1', resolve))
    expect((server.address() as AddressInfo).port).toBe(wanted)
    expect(await freePort(wanted)).not.toBe(wanted)
    await new Promise((resolve) => server.close(resolve))
  })
})
