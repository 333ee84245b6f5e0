// Whether what lies on the disk can be read without a key: under `/`, and under the enrolled user's home. A swapped-out page is nobody's here.
import { stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { State } from '../../../protocol/facts.ts'
import { createKept } from '../kept.ts'
import { readNames, readTarget, readText, tellsOfFile, type RunCommand } from '../read.ts'

const MAX_STACK = 8
interface Mount { readonly source: string; readonly at: string; readonly type: string }
export interface Encryption { readonly state: State; readonly method: string }

/** Rows of /proc/mounts; blanks in names are written in octal. */
export const parseMounts = (text: string): Mount[] => text.split('\n').flatMap((row) => {
  const [source, at, type] = row.split(' ').map((field) => field.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))))
  return source === undefined || at === undefined || type === undefined ? [] : [{ source, at, type }]
})

/** The mount that a path lies on: of the deepest the last, which covers those before it. */
export function mountOf(mounts: readonly Mount[], path: string): Mount | null {
  const above = mounts.filter(({ at }) => at === '/' || path === at || path.startsWith(`${at}/`))
  return above.reduce<Mount | null>((deepest, each) => (deepest === null || each.at.length >= deepest.at.length ? each : deepest), null)
}

/** Whether the block device is encrypted, itself or everything it is stacked on (LVM on LUKS). */
async function deviceState(root: string, device: string, depth = 0): Promise<State> {
  const at = join(root, 'sys/class/block', device)
  if (depth > MAX_STACK || await readNames(at) === null) return 'unknown'
  // Of that family two only check what is read: dm-verity and dm-integrity.
  if (/^CRYPT-(?!VERITY|INTEGRITY)/.test(await readText(join(at, 'dm/uuid')) ?? '')) return 'on'
  return all(await Promise.all((await readNames(join(at, 'slaves')) ?? []).map((below) => deviceState(root, below, depth + 1))))
}
/** One plain disk under a volume is enough to read it. */
const all = (states: readonly State[]): State => (states.length === 0 || states.includes('off') ? 'off' : states.includes('unknown') ? 'unknown' : 'on')

/** The devices of a file system by their kernel names; null when it is on none (overlay, network). */
async function devicesOf(root: string, { source, type }: Mount): Promise<string[] | null> {
  if (!source.startsWith('/dev/')) return null
  const device = basename(await readTarget(join(root, source)) ?? source)
  if (type !== 'btrfs') return [device]
  // Mounted from one of its devices, it may lie on several.
  const pools = join(root, 'sys/fs/btrfs')
  for (const pool of await readNames(pools) ?? []) {
    const devices = await readNames(join(pools, pool, 'devices')) ?? []
    if (devices.includes(device)) return devices
  }
  return [device]
}

async function mountState(root: string, mount: Mount | null): Promise<Encryption> {
  if (mount?.type === 'ecryptfs') return { state: 'on', method: 'ecryptfs' }
  const devices = mount === null ? null : await devicesOf(root, mount)
  const state = devices === null ? 'unknown' : all(await Promise.all(devices.map((device) => deviceState(root, device))))
  return { state, method: state === 'on' ? 'dm-crypt' : '' }
}

/** `lsattr -d`: an `E` among the letters before the path says that the directory is encrypted by the file system (fscrypt). */
export const saysEncrypted = (text: string): boolean => /^[a-zA-Z-]*E[a-zA-Z-]* /.test(text)

export interface DiskEncryption { readonly root: Encryption; readonly home: Encryption | null; readonly both: Encryption }

/** What is asked for a home: its path as this machine's root sees it; null: nobody's, and only `/` counts. */
export function diskEncryption(root: string, run: RunCommand): (home: string | null) => Promise<DiskEncryption> {
  const kept = createKept<boolean | null>()

  /** Only an empty directory can be made an encrypted one, so that of one directory this is asked once. */
  async function encryptsItself(home: string): Promise<boolean> {
    const facts = await stat(home).catch((cause: unknown) => {
      if (tellsOfFile(cause)) return null
      throw cause
    })
    if (facts === null) return false
    return await kept(`${home} ${facts.dev}:${facts.ino}`, [], async () => {
      const told = await run('lsattr', ['-d', '--', home])
      return told === null ? null : saysEncrypted(told)
    }) ?? false
  }

  return async (home) => {
    const mounts = parseMounts(await readText(join(root, 'proc/mounts')) ?? '')
    const under = await mountState(root, mountOf(mounts, '/'))
    if (home === null) return { root: under, home: null, both: under }
    let own = await mountState(root, mountOf(mounts, root === '/' ? home : home.slice(root.length)))
    if (own.state !== 'on' && await encryptsItself(home)) own = { state: 'on', method: 'fscrypt' }
    // What is plain of either can be read by whoever holds the disk.
    const state = all([under.state, own.state])
    return { root: under, home: own, both: { state, method: state === 'on' ? [...new Set([under.method, own.method])].join(', ') : '' } }
  }
}
