// The SSH CA of a gateway: keys in its state directory, made at first use, the same for each of its processes. Hosts trust a new one before it signs, and the old one until what it signed has ended.
import { createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes, sign, type KeyObject } from 'node:crypto'
import { chown, link, rename, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { keyLine } from '../../domain/access/ssh-key.ts'
import { joined, string } from '../../domain/access/ssh-wire.ts'
import { jsonText, readJson, removePrivateFile, writePrivateFile } from '../../node/key-store.ts'
import { instant } from '../../protocol/text.ts'
import type { Signer } from './certificate.ts'

const TYPE = 'ssh-ed25519'
/** No certificate lives longer (`certificateSeconds`). */
const AFTERWARDS = 86_400_000
/** How long what was read of the file serves: another process may have replaced it. */
const READ_FOR = 1_000

/** `from`: ms, when it begins to sign. */
const stored = z.strictObject({ keys: z.array(z.strictObject({ privateKey: z.string(), from: instant })).min(1).max(16) })
type Stored = z.infer<typeof stored>['keys'][number]

/** A key of the CA, as hosts are told of it. */
export interface PublishedKey {
  /** One line, for TrustedUserCAKeys. */
  readonly line: string
  readonly state: 'next' | 'signs' | 'retiring'
  /** ms, when it begins to sign. */
  readonly from: number
}

export interface SshAuthority {
  /** The key that signs now. */
  signer(): Promise<Signer>
  published(): Promise<readonly PublishedKey[]>
}

const newKey = (from: number): Stored => ({ privateKey: generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), from })

function blobOf(key: KeyObject): Uint8Array {
  const { x = '' } = createPublicKey(key).export({ format: 'jwk' })
  return joined([string(TYPE), string(Buffer.from(x, 'base64url'))])
}

const fileIn = (directory: string): string => join(directory, 'ssh-ca.json')
const readKeys = async (directory: string): Promise<readonly Stored[] | null> => (await readJson(fileIn(directory), stored))?.keys ?? null

/** Keys that hosts trust: each until the certificates that it may have signed have ended. */
const trusted = (keys: readonly Stored[], now: number): Stored[] => keys.filter((_, at) => (keys[at + 1]?.from ?? Infinity) + AFTERWARDS > now)
const signing = (keys: readonly Stored[], now: number): Stored | undefined => keys.findLast(({ from }) => from <= now) ?? keys[0]

/** Puts a file in place. `replaces`: false leaves the one that is there already. */
async function place(directory: string, keys: readonly Stored[], replaces: boolean): Promise<void> {
  const file = fileIn(directory)
  const beside = `${file}.${randomBytes(6).toString('hex')}`
  await writePrivateFile(beside, jsonText({ keys: [...keys] } satisfies z.input<typeof stored>))
  try {
    const { uid, gid } = await stat(dirname(file))
    // An administrator makes it as root; the gateway, which reads it, may be another user.
    if (process.getuid?.() === 0 && uid !== 0) await chown(beside, uid, gid)
    if (replaces) await rename(beside, file)
    else {
      await link(beside, file).catch((cause: NodeJS.ErrnoException) => {
        // Another process was first: its key is the one that all use.
        if (cause.code !== 'EEXIST') throw cause
      })
    }
  } finally {
    await removePrivateFile(beside)
  }
}

/** Reads the keys, and makes the first one where there is none. @param now ms */
async function keysOf(directory: string, now: number): Promise<readonly Stored[]> {
  const kept = await readKeys(directory)
  if (kept !== null) return kept
  await place(directory, [newKey(now)], false)
  const made = await readKeys(directory)
  if (made === null) throw new Error(`${fileIn(directory)} was taken away while it was made`)
  return made
}

const publish = (keys: readonly Stored[], now: number): PublishedKey[] => {
  const current = signing(keys, now)
  return trusted(keys, now).map((each) => ({
    line: `${keyLine(TYPE, blobOf(createPrivateKey(each.privateKey)))} sallyport-ssh-ca`, from: each.from, state: each === current ? 'signs' : each.from > now ? 'next' : 'retiring',
  }))
}

/** The CA in a state directory; nothing is made before it is asked for. @param now ms */
export function openSshAuthority({ directory, now }: { readonly directory: string; readonly now: () => number }): SshAuthority {
  let kept: { readonly keys: readonly Stored[]; readonly readAt: number } | null = null
  let last: { readonly privateKey: string; readonly signer: Signer } | null = null
  const keys = async (): Promise<readonly Stored[]> => {
    const at = now()
    if (kept === null || Math.abs(at - kept.readAt) > READ_FOR) kept = { keys: await keysOf(directory, at), readAt: at }
    return kept.keys
  }
  return {
    async signer() {
      const current = signing(await keys(), now())
      if (current === undefined) throw new Error('the SSH CA has no key')
      if (last?.privateKey !== current.privateKey) {
        const key = createPrivateKey(current.privateKey)
        last = { privateKey: current.privateKey, signer: { blob: blobOf(key), sign: (data) => joined([string(TYPE), string(sign(null, data, key))]) } }
      }
      return last.signer
    },
    published: async () => publish(await keys(), now()),
  }
}

/**
 * Makes the key that signs `afterMs` from now on; the one before is trusted until a day later.
 * @param compromised the keys before are trusted no more from now on, and the new one signs at once
 * @throws Error when one waits already
 */
export async function rotateSshAuthority(directory: string, { now, afterMs, compromised }: { readonly now: number; readonly afterMs: number; readonly compromised: boolean }): Promise<readonly PublishedKey[]> {
  const before = trusted(await keysOf(directory, now), now)
  const waiting = before.find(({ from }) => from > now)
  if (!compromised && waiting !== undefined) throw new Error(`A key waits already; it signs from ${new Date(waiting.from).toISOString()} on.`)
  const keys = compromised ? [newKey(now)] : [...before, newKey(now + afterMs)]
  await place(directory, keys, true)
  return publish(keys, now)
}
