// The policy by which Chromium, Chrome and Edge select our certificate without asking (`AutoSelectCertificateForUrls`), for the named hosts only.
import { readdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { tellsOfFile } from '../../../posture/read.ts'
import { StoreFailure } from '../browser-store.ts'
import { readPolicyFile, writePolicyFile, type JsonObject } from './policy-file.ts'

const POLICY = 'AutoSelectCertificateForUrls'
/** Of two files that set one policy the last by name wins, so ours is the last and repeats what the others say. */
export const FILE = 'zz-sallyport.json'
const ours = z.object({ filter: z.object({ SUBJECT: z.object({ CN: z.string().regex(/^[0-9a-f]{32}$/) }) }) })

/** UID that an entry is for; null: an administrator's. */
function uidOf(entry: string): string | null {
  try {
    const read = ours.safeParse(JSON.parse(entry))
    return read.success ? read.data.filter.SUBJECT.CN : null
  } catch {
    return null // not JSON: Chromium ignores it, and it is not ours
  }
}

/** `*.corp.test` is written `[*.]corp.test`, which names corp.test itself too. */
export const entryFor = (uid: string, host: string): string => JSON.stringify({ pattern: `https://${host.replace(/^\*\./, '[*.]')}`, filter: { SUBJECT: { CN: uid } } })

const entriesOf = (value: unknown): string[] => (Array.isArray(value) ? value.filter((each) => typeof each === 'string') : [])

/** What a file holds; what can't be read says nothing to Chromium either. */
const readable = (path: string): Promise<JsonObject | null> => readPolicyFile(path).catch((cause: unknown) => {
  if (cause instanceof StoreFailure) return {}
  throw cause
})

/** The entries of the administrator's own files, in the order in which Chromium lets the last of them win. */
async function others(directory: string): Promise<string[]> {
  let names: string[]
  try {
    names = await readdir(directory)
  } catch (cause) {
    if (tellsOfFile(cause)) return []
    throw cause
  }
  for (const name of names.filter((each) => each.endsWith('.json') && each !== FILE).sort().reverse()) {
    const policy = (await readable(join(directory, name)))?.[POLICY]
    if (policy !== undefined) return entriesOf(policy)
  }
  return []
}

/** Writes our entries for these hosts into one directory of policies, or takes them out (no hosts). Other agents' entries stay. Throws a `StoreFailure`. */
export async function selectInChromium(path: string, uid: string, hosts: readonly string[]): Promise<void> {
  const before = await readable(path) // by its name it is ours: whatever it has become, it is written anew
  const others_ = entriesOf(before?.[POLICY]).filter((entry) => uidOf(entry) !== null && uidOf(entry) !== uid)
  const own = hosts.map((host) => entryFor(uid, host))
  const wanted = own.length + others_.length === 0 ? null : { [POLICY]: [...new Set([...await others(dirname(path)), ...others_, ...own])] }
  if (JSON.stringify(wanted) !== JSON.stringify(before)) await writePolicyFile(path, wanted)
}
