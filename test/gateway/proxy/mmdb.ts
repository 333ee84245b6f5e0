// A database of addresses in MMDB form (format 2.0), as small as its rows: 24-bit records, IPv4 under ::/96.
import ipaddr from 'ipaddr.js'

type Value = string | number | readonly Value[] | { readonly [name: string]: Value }
const STRING = 2
const UINT16 = 5
const UINT32 = 6
const MAP = 7
const ARRAY = 11
const MARKER = Buffer.from('abcdef4d61784d696e642e636f6d', 'hex')

function field(type: number, size: number): Buffer {
  const [low, more] = size < 29 ? [size, []] : [29, [size - 29]]
  return Buffer.from(type < 8 ? [(type << 5) | low, ...more] : [low, type - 7, ...more])
}
function encode(value: Value): Buffer {
  if (typeof value === 'string') return Buffer.concat([field(STRING, Buffer.byteLength(value)), Buffer.from(value)])
  if (typeof value === 'number') {
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32BE(value)
    return Buffer.concat([field(value < 65_536 ? UINT16 : UINT32, value < 65_536 ? 2 : 4), value < 65_536 ? bytes.subarray(2) : bytes])
  }
  if (Array.isArray(value)) return Buffer.concat([field(ARRAY, value.length), ...(value as readonly Value[]).map(encode)])
  const entries = Object.entries(value)
  return Buffer.concat([field(MAP, entries.length), ...entries.flatMap(([name, each]) => [encode(name), encode(each)])])
}

const bitsOf = (range: string): number[] => {
  const [address, length] = ipaddr.parseCIDR(range)
  const isV4 = address.kind() === 'ipv4'
  const bits = [...isV4 ? Array<number>(12).fill(0) : [], ...address.toByteArray()].flatMap((byte) => Array.from({ length: 8 }, (_, at) => (byte >> (7 - at)) & 1))
  return bits.slice(0, length + (isV4 ? 96 : 0))
}

/** @param rows what is told of each range; a later row does not take apart an earlier one */
export function writeMmdb(rows: Readonly<Record<string, Value>>): Buffer {
  const nodes: [number | null, number | null][] = [[null, null]]
  const leaves: { node: number; side: 0 | 1; offset: number }[] = []
  const data: Buffer[] = []
  for (const [range, value] of Object.entries(rows)) {
    const bits = bitsOf(range)
    let node = 0
    bits.forEach((bit, depth) => {
      const side = bit === 0 ? 0 : 1
      if (depth === bits.length - 1) leaves.push({ node, side, offset: Buffer.concat(data).length })
      else node = (nodes[node] ?? [null, null])[side] ??= nodes.push([null, null]) - 1
    })
    data.push(encode(value))
  }
  const records = nodes.map(([left, right]) => [left ?? nodes.length, right ?? nodes.length])
  for (const { node, side, offset } of leaves) (records[node] ?? [])[side] = nodes.length + 16 + offset
  const tree = Buffer.from(records.flat().flatMap((each) => [each >> 16, (each >> 8) & 255, each & 255]))
  const told = encode({ node_count: nodes.length, record_size: 24, ip_version: 6, database_type: 'Test', languages: ['en'], binary_format_major_version: 2, binary_format_minor_version: 0, build_epoch: 1_790_000_000, description: { en: 'of a test' } })
  return Buffer.concat([tree, Buffer.alloc(16), ...data, MARKER, told])
}
