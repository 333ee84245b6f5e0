// The keys by which upstreams know what this gateway vouches for: kept in its state directory, published before they sign, and afterwards for as long as what they signed.
import { join } from 'node:path'
import { z } from 'zod'
import { publishedKey, signAssertion, type AssertionClaims } from '../../identity/assertion.ts'
import { exportPrivateKey, generateKey, importPrivateKey } from '../../identity/keys.ts'
import { readJson, writeJson } from '../../node/key-store.ts'
import type { Log } from '../../node/logging.ts'
import { instant } from '../../protocol/text.ts'
import type { Timers } from '../../node/timers.ts'

export interface AssertionKeys {
  sign(claims: AssertionClaims): Promise<string>
  /** The key set (RFC 7517), as JSON. */
  readonly published: string
  close(): void
}

const HOUR = 3_600_000
const DAY = 24 * HOUR
/** A key is published this long before it signs: upstreams keep what they have fetched. */
const AHEAD = DAY
const SIGNS_FOR = 30 * DAY
/** What it signed lives for minutes. */
const AFTERWARDS = DAY

/** `from`: ms, when it begins to sign. */
const stored = z.strictObject({ keys: z.array(z.strictObject({ privateKey: z.string(), from: instant })) })
type Stored = z.infer<typeof stored>['keys'][number]

const newKey = async (from: number): Promise<Stored> => ({ privateKey: await exportPrivateKey((await generateKey(true)).privateKey), from })

/** Keys that are still of use, the oldest first; the next one is among them before it is needed. */
async function dueKeys(kept: readonly Stored[], now: number): Promise<Stored[]> {
  const keys = kept.length > 0 ? [...kept] : [await newKey(now)]
  const newest = keys.at(-1)
  if (newest !== undefined && now >= newest.from + SIGNS_FOR - AHEAD) keys.push(await newKey(Math.max(newest.from + SIGNS_FOR, now + AHEAD)))
  return keys.filter((_, at) => (keys[at + 1]?.from ?? Infinity) + AFTERWARDS > now)
}

/** `makes`: false leaves making keys to another process, and reads what that has made. */
interface Options { readonly directory: string; readonly now: () => number; readonly timers: Timers; readonly log: Log; readonly makes?: boolean }

/** Opens the keys in `directory`; makes the first one, and each next one when it is due. */
export async function openAssertionKeys({ directory, now, timers, log, makes = true }: Options): Promise<AssertionKeys> {
  const file = join(directory, 'assertion-keys.json')
  const keysInFile = async (): Promise<readonly Stored[]> => (await readJson(file, stored))?.keys ?? []
  let kept = await keysInFile()
  let keys: { readonly from: number; readonly privateKey: CryptoKey; readonly kid: string }[] = []
  let published = ''
  let stop = () => {}

  async function renew(): Promise<void> {
    const due = makes ? await dueKeys(kept, now()) : await keysInFile()
    if (keys.length > 0 && due.length === kept.length && due.every((each, at) => each.privateKey === kept[at]?.privateKey)) return
    if (makes && due.some((each) => !kept.includes(each))) await writeJson(file, { keys: [...due] } satisfies z.input<typeof stored>)
    const read = await Promise.all(due.map(async ({ privateKey, from }) => {
      const pair = await importPrivateKey(privateKey, false)
      return { from, privateKey: pair.privateKey, jwk: await publishedKey(pair.publicKey) }
    }))
    kept = due
    keys = read.map(({ from, privateKey, jwk }) => ({ from, privateKey, kid: jwk.kid }))
    published = JSON.stringify({ keys: read.map(({ jwk }) => jwk) })
  }
  function renewAgain(): void {
    stop = timers.after(HOUR, () => {
      renew().catch((cause: Error) => log.error({ event: 'assertion-keys-not-renewed', reason: cause.message }, 'The keys for assertions could not be renewed; it will be tried again.')).then(renewAgain, renewAgain)
    })
  }
  await renew()
  renewAgain()
  return {
    close: () => stop(),
    get published() {
      return published
    },
    async sign(claims) {
      const key = keys.findLast(({ from }) => from <= now()) ?? keys[0]
      if (key === undefined) throw new Error('there is no key to sign with')
      return await signAssertion(claims, key.privateKey, key.kid)
    },
  }
}
