// One source of sights: what it is called, whether it has something new, and its word when it is asked. It keeps no time and remembers nothing.
import { constants } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import type { Commands } from '../commands.ts'
import { readClientList } from './client-list.ts'
import { readDnsmasqLeases } from './dnsmasq.ts'
import { readIscLeases } from './isc-dhcpd.ts'
import { readKeaLeases } from './kea.ts'
import type { SightSources } from './sources-file.ts'
import type { Reading } from './told-sight.ts'
import { readWireguard } from './wireguard.ts'

export interface Source {
  /** As messages name it. */
  readonly name: string
  readonly everyMs: number
  /** Changes with what it would say; null: only asking tells. Rejects when it can't be looked at. */
  version(): Promise<string | null>
  /** @param now ms. Rejects when it can't be read, or is too large. */
  read(now: number): Promise<Reading>
}

const LOOK_AT_FILES_MS = 1_000
const ASK_WIREGUARD_MS = 5_000
const MAX_BYTES = 16 << 20

/** Reads at most so much: a file that is larger is not read in part, for its last entries are those that count. */
async function readBounded(path: string): Promise<string> {
  // Opening a pipe would wait for who writes, and hold one of the few threads that read files for everybody.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const about = await file.stat()
    if (!about.isFile()) throw new Error(`${path} is not a regular file`)
    const buffer = Buffer.alloc(Math.min(about.size + 65_536, MAX_BYTES + 1))
    let size = 0
    for (let got = -1; got !== 0 && size < buffer.length; size += got) got = (await file.read(buffer, size, buffer.length - size)).bytesRead
    if (size > MAX_BYTES) throw new Error(`${path} is larger than ${MAX_BYTES >> 20} MB`)
    return buffer.toString('utf8', 0, size)
  } finally {
    await file.close()
  }
}
const isMissing = (cause: unknown) => (cause as NodeJS.ErrnoException).code === 'ENOENT'
const versionOf = async (path: string): Promise<string> => {
  const { ino, mtimeMs, size } = await stat(path)
  return `${ino} ${mtimeMs} ${size}`
}
const optional = async <T>(reading: Promise<T>, otherwise: T): Promise<T> => await reading.catch((cause: unknown) => {
  if (isMissing(cause)) return otherwise
  throw cause
})

/** Kea tidies its file into others beside it; until it is done, the older leases are there only (`lease file cleanup` of its manual). */
const keaFiles = (file: string): string[] => [`${file}.2`, `${file}.completed`, `${file}.1`]

function leaseSource({ format, file }: SightSources['leases'][number]): Source {
  const common = { name: `${format} ${file}`, everyMs: LOOK_AT_FILES_MS }
  if (format !== 'kea') return { ...common, version: () => versionOf(file), read: async (now) => (format === 'dnsmasq' ? readDnsmasqLeases : readIscLeases)(await readBounded(file), now) }
  return {
    ...common,
    version: async () => (await Promise.all([versionOf(file), ...keaFiles(file).map((each) => optional(versionOf(each), 'none'))])).join(),
    read: async (now) => readKeaLeases((await Promise.all([...keaFiles(file).map((each) => optional(readBounded(each), '')), readBounded(file)])).join('\n'), now),
  }
}

export function openSources({ leases, wireguard, vpn }: SightSources, { commands, sightMs }: { readonly commands: Commands; readonly sightMs: number }): Source[] {
  const say = async (program: string, args: readonly string[]): Promise<string> => {
    const { code, output, errors } = await commands.run(program, args)
    if (code !== 0) throw new Error(`${program} ended with ${code}: ${errors.slice(0, 200)}`)
    if (output.length > MAX_BYTES) throw new Error(`${program} says more than ${MAX_BYTES >> 20} MB`)
    return output
  }
  return [
    ...leases.map(leaseSource),
    ...wireguard.map(({ interface: link, peers }): Source => ({
      name: `wireguard ${link}`, everyMs: ASK_WIREGUARD_MS, version: () => Promise.resolve(null),
      async read(now) {
        const [allowedIps, handshakes] = [await say('wg', ['show', link, 'allowed-ips']), await say('wg', ['show', link, 'latest-handshakes'])]
        return readWireguard({ allowedIps, handshakes, link, uidOf: (key) => (Object.hasOwn(peers, key) ? peers[key] ?? null : null) }, now)
      },
    })),
    ...vpn.map((each): Source => ('file' in each ? {
      name: `vpn ${each.name}`, everyMs: LOOK_AT_FILES_MS, version: () => versionOf(each.file),
      // A server that has died writes no more, and what it wrote last ends.
      read: async (now) => readClientList(await readBounded(each.file), each.name, Math.min((await stat(each.file)).mtimeMs, now) + sightMs, now),
    } : {
      name: `vpn ${each.name}`, everyMs: each.everySeconds * 1000, version: () => Promise.resolve(null),
      read: async (now) => readClientList(await say(each.command[0], each.command.slice(1)), each.name, now + sightMs, now),
    })),
  ]
}
