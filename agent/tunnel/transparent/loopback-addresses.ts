// The loopback address of each protected name: from a range of its own, the same after every start. It touches no interface.
import { createHash } from 'node:crypto'
import ipaddr from 'ipaddr.js'

// All of 127.0.0.0/8 is this machine's own on Linux. A quarter of it, away from 127.0.0.1, 127.0.1.1 (Debian's host name) and
// 127.0.0.53 (systemd's resolver), is so large that names hardly ever meet.
export const namesRange = '127.64.0.0/10'
const FIRST = 127 * 2 ** 24 + 64 * 2 ** 16
const SIZE = 2 ** 22

const text = (offset: number): string => [24, 16, 8, 0].map((shift) => ((FIRST + offset) >>> shift) & 0xff).join('.')
const wanted = (name: string): number => createHash('sha256').update(name).digest().readUInt32BE(0) % SIZE

/** Whether an address is one of those that names may have. */
export const isOfNames = (address: string): boolean => ipaddr.isValid(address) && address.startsWith('127.') && ipaddr.parse(address).match(ipaddr.parseCIDR(namesRange))

/** Name → address. Two names that want the same one get neighbours, in the order of their spelling. */
export function addressesOf(names: Iterable<string>): Map<string, string> {
  const taken = new Set<number>()
  return new Map([...new Set(names)].sort().map((name) => {
    let offset = wanted(name)
    while (taken.has(offset)) offset = (offset + 1) % SIZE
    taken.add(offset)
    return [name, text(offset)]
  }))
}
