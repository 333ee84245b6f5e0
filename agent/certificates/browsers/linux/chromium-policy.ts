// The policy by which Chromium, Chrome and Edge select our certificate without asking (`AutoSelectCertificateForUrls`), for the named hosts only.
import { readdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { tellsOfFile } from '../../../posture/read.ts'
import { StoreFailure } from '../browser-store.ts'
import { readPolicyFile, writePolicyFile, type JsonObject } from './policy-file.ts'

const POLICY = 'AutoSelectCertificateForUrls'
/** Of two files that set one policy the last by name wins, so ours is the last and repeats what the others say. */
export const FILE = 'zz-sallyport.json'
/** Beside what Chromium reads: what each agent of this machine wants, a file each. The policy is made of them, so that two agents writing at once end with both. */
const WANTED = 'sallyport'
const ATTEMPTS = 5

/** `*.corp.test` is written `[*.]corp.test`, which names corp.test itself too. */
const entryFor = (uid: string, host: string): string => JSON.stringify({ pattern: `https://${host.replace(/^\*\./, '[*.]')}`, filter: { SUBJECT: { CN: uid } } })
const entriesOf = (value: JsonObject | null): string[] | undefined => (Array.isArray(value?.[POLICY]) ? value[POLICY].filter((each) => typeof each === 'string') : undefined)

/** What a file holds; what can't be read says nothing to Chromium either. */
const readable = (path: string): Promise<JsonObject | null> => readPolicyFile(path).catch((cause: unknown) => {
  if (cause instanceof StoreFailure) return {}
  throw cause
})

/** The files of a directory that set the policy, the one that Chromium would follow first. */
async function settings(directory: string): Promise<string[][]> {
  let names: string[]
  try {
    names = await readdir(directory)
  } catch (cause) {
    if (tellsOfFile(cause)) return []
    throw cause
  }
  const read = await Promise.all(names.filter((name) => name !== FILE).sort().reverse().map((name) => readable(join(directory, name))))
  return read.map(entriesOf).filter((entries) => entries !== undefined)
}

/** Writes our entries for these hosts into one directory of policies, or takes them out (no hosts). Throws a `StoreFailure`. */
export async function selectInChromium(path: string, uid: string, hosts: readonly string[]): Promise<void> {
  const directory = dirname(path)
  const wanted = join(dirname(directory), WANTED)
  await keep(join(wanted, `${uid}.json`), hosts.length === 0 ? null : hosts.map((host) => entryFor(uid, host)))
  const look = async () => [...(await settings(directory)).slice(0, 1), ...await settings(wanted)].flat()
  for (let attempt = 0, entries = await look(); attempt < ATTEMPTS; attempt++) {
    const ours = (await settings(wanted)).length > 0
    await keep(path, ours ? [...new Set(entries)] : null)
    // Another agent may have written from what was wanted before; whoever writes last looks again.
    const after = await look()
    if (JSON.stringify(after) === JSON.stringify(entries)) return
    entries = after
  }
  throw new StoreFailure(`${path} is being changed by others.`)
}

/** By their names both files are ours: whatever they have become, they are written anew. */
async function keep(path: string, entries: readonly string[] | null): Promise<void> {
  const after = entries === null ? null : { [POLICY]: entries }
  if (JSON.stringify(after) !== JSON.stringify(await readable(path))) await writePolicyFile(path, after)
}
