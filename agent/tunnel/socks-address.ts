// Addresses as SOCKS5 writes them (RFC 1928 §5), in requests and in datagrams.
import ipaddr from 'ipaddr.js'
import { canonicalHost, type Target } from './target.ts'

/** `target` is null where it names nothing that can be reached; `end`: where the address ends, port included. */
export type SocksAddress = { kind: 'more' } | { kind: 'unknown-type' } | { kind: 'address'; target: Target | null; port: number; end: number }

/** Reads address type, address and port at `from`. */
export function readSocksAddress(bytes: Uint8Array, from: number): SocksAddress {
  const type = bytes[from]
  const nameLength = bytes[from + 1]
  if (type === undefined || nameLength === undefined) return { kind: 'more' }
  const length = { 1: 4, 3: 1 + nameLength, 4: 16 }[type]
  if (length === undefined) return { kind: 'unknown-type' }
  const end = from + 1 + length + 2
  if (bytes.length < end) return { kind: 'more' }
  const address = bytes.subarray(from + 1, end - 2)
  const host = canonicalHost(type === 3 ? Buffer.from(address.subarray(1)).toString('latin1') : ipaddr.fromByteArray([...address]).toString())
  const port = (bytes[end - 2] ?? 0) * 256 + (bytes[end - 1] ?? 0)
  return { kind: 'address', target: host === null || port === 0 ? null : { host, port }, port, end }
}

/** A datagram of a local program (§7). `address` is its destination as the program wrote it: answers bear the same. */
export interface SocksDatagram { readonly address: Uint8Array; readonly target: Target; readonly payload: Uint8Array }

/** @returns null: it is none, a fragment, or leads nowhere */
export function readSocksDatagram(bytes: Uint8Array): SocksDatagram | null {
  // Fragments may be refused, and whoever puts them together holds memory for strangers.
  if (bytes.length < 4 || bytes[0] !== 0 || bytes[1] !== 0 || bytes[2] !== 0) return null
  const read = readSocksAddress(bytes, 3)
  return read.kind !== 'address' || read.target === null ? null : { address: bytes.subarray(3, read.end), target: read.target, payload: bytes.subarray(read.end) }
}

/** A datagram for a local program. */
export const socksDatagram = (address: Uint8Array, payload: Uint8Array): Uint8Array => Buffer.concat([Uint8Array.of(0, 0, 0), address, payload])
