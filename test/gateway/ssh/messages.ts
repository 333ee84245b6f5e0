// What two sides of SSH say in the clear, built by hand: hosts that no real one is like.
import { joined, string, uint32 } from '../../../domain/access/ssh-wire.ts'

export const bytes = (...values: number[]) => Uint8Array.from(values)
export const hostKey = (fill: number) => joined([string('ssh-ed25519'), string(new Uint8Array(32).fill(fill))])
export function packet(payload: Uint8Array): Uint8Array {
  const padding = 4 + ((8 - ((payload.length + 9) % 8)) % 8)
  return joined([uint32(payload.length + padding + 1), bytes(padding), payload, new Uint8Array(padding)])
}
export const kexInit = (methods: string, { guesses = false } = {}) => packet(joined([bytes(20), new Uint8Array(16), string(methods), ...Array.from({ length: 9 }, () => string('x')), bytes(guesses ? 1 : 0), uint32(0)]))
export const reply = (key: Uint8Array, type = 31) => packet(joined([bytes(type), string(key), string(new Uint8Array(40).fill(7)), string('a signature')]))
export const version = Buffer.from('SSH-2.0-Test\r\n')
export const client = (methods = 'curve25519-sha256') => joined([version, kexInit(methods)])
