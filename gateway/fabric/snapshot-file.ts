// The snapshot on disk: a gateway that starts while the EMS is away decides from it, as stale as it was. Damaged or foreign files are refused.
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { z } from 'zod'
import { emptySnapshot, nextSnapshot, type Snapshot } from '../../domain/access/snapshot.ts'
import type { EndpointRecord } from '../../domain/access/endpoint-record.ts'
import { MAX_AHEAD_MS } from '../../domain/access/staleness.ts'
import { readPrivateFile, writePrivateFile } from '../../node/key-store.ts'
import { certificateRecord } from '../../protocol/certificates.ts'
import { watermark } from '../../protocol/fabric/envelope.ts'
import { verifiedUser } from '../../protocol/identity.ts'
import { gatewaySerial, uid } from '../../protocol/ids.ts'
import { ownership } from '../../protocol/ownership.ts'
import { instant, sha256Hex } from '../../protocol/text.ts'
import type { TagFacts } from './records.ts'
import { waysOfHearing, type ReplicaState } from './replica.ts'
import { sharedTags, sharedUser } from './shared-parts.ts'

const FORMAT = 2
const tagPart = { tagsKnown: z.boolean(), tags: z.array(z.tuple([z.string(), instant.nullable()])), unknown: z.array(z.string()), unknownUntil: instant.nullable() }
const storedRecord = z.strictObject({
  uid, registered: z.boolean(), online: z.boolean(), onFabric: z.boolean(), quarantined: z.boolean(), hostName: z.string(), ownership: ownership.optional(), user: verifiedUser.optional(), addresses: z.array(z.string()), macs: z.array(z.string()),
  certificates: z.array(certificateRecord), ...tagPart,
})
const held = z.strictObject({ sysinfo: watermark, uid_tags: watermark, host_tags: watermark })
const standing = { revision: watermark, currentAt: instant.nullable(), held, heardBy: z.enum(waysOfHearing).optional() }
const header = z.strictObject({ format: z.literal(FORMAT), serial: gatewaySerial, ...standing, tagNames: z.array(z.tuple([z.string(), z.string()])), early: z.array(z.strictObject({ uid, ...tagPart })) })
const trailer = z.strictObject({ checksum: sha256Hex })
/** Small and written often: until when the large file with that checksum was known to be all. It may be missing; then the large file says how old it is. */
const currency = z.strictObject({ format: z.literal(FORMAT), checksum: sha256Hex, ...standing, endpoints: z.number().int(), savedAt: instant })
export type Currency = z.infer<typeof currency>

const bodyFile = (directory: string) => join(directory, 'snapshot.ndjson')
const currencyFile = (directory: string) => join(directory, 'snapshot.json')

const storeTags = ({ tagsKnown, tags, unknown, unknownUntil }: TagFacts) => ({ tagsKnown, tags: [...tags].map(([tagUid, { validUntil }]) => [tagUid, validUntil]), unknown: [...unknown], unknownUntil })
const storeRecord = (record: EndpointRecord) => ({ ...record, ...storeTags(record) })
const readTags = (stored: { tagsKnown: boolean; tags: [string, number | null][]; unknown: string[]; unknownUntil: number | null }): TagFacts =>
  ({ tagsKnown: stored.tagsKnown, ...sharedTags(stored), unknownUntil: stored.unknownUntil })

/** What was written last: saving again what only became current again writes the small file alone. */
export interface Saved { readonly checksum: string; readonly endpoints: Snapshot['endpoints']; readonly tagNames: Snapshot['tagNames']; readonly early: ReplicaState['early'] }

/** Writes the state so that a crash leaves the old one or the new one. @param last what the call before returned */
export async function saveSnapshot(directory: string, serial: string, state: ReplicaState, now: number, last: Saved | null): Promise<Saved> {
  const { snapshot: { endpoints, tagNames, revision, currentAt }, early } = state
  let saved = last
  if (saved === null || saved.endpoints !== endpoints || saved.tagNames !== tagNames || saved.early !== early) {
    const first: z.input<typeof header> = { format: FORMAT, serial, revision, currentAt, held: state.held, heardBy: state.heardBy, tagNames: [...tagNames], early: [...early].map(([key, tags]) => ({ uid: key, ...storeTags(tags) })) as z.input<typeof header>['early'] }
    const lines = [`${JSON.stringify(first)}\n`]
    for (const bucket of endpoints.buckets) {
      lines.push([...bucket.values()].map((record) => `${JSON.stringify(storeRecord(record))}\n`).join(''))
      // 50,000 records at once would hold up every decision for a fifth of a second.
      await setImmediate()
    }
    const checksum = checksumOf(lines)
    await writePrivateFile(bodyFile(directory), Buffer.from([...lines, JSON.stringify({ checksum } satisfies z.input<typeof trailer>), '\n'].join('')))
    saved = { checksum, endpoints, tagNames, early }
  }
  const small: Currency = { format: FORMAT, checksum: saved.checksum, revision, currentAt, held: state.held, heardBy: state.heardBy, endpoints: endpoints.size, savedAt: now }
  await writePrivateFile(currencyFile(directory), JSON.stringify(small))
  return saved
}

const checksumOf = (lines: readonly string[]): string => {
  const hash = createHash('sha256')
  for (const line of lines) hash.update(line)
  return hash.digest('hex')
}

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined // torn or not JSON: no schema takes undefined, so it is refused as damaged
  }
}

/** How current the snapshot on disk is; null when there is none or it can't be read. */
export async function readCurrency(directory: string): Promise<Currency | null> {
  const text = await readPrivateFile(currencyFile(directory))
  return text === null ? null : currency.safeParse(parse(text)).data ?? null
}

export type LoadedSnapshot = { readonly ok: true; readonly state: ReplicaState } | { readonly ok: false; readonly reason: 'none' | 'damaged' | 'foreign' }

/**
 * Reads the state back, with the `currentAt` that it had.
 * @param serial the gateway that must have written it
 * @param now ms; a `currentAt` that lies after it is not believed
 */
export async function loadSnapshot(directory: string, serial: string, now: number): Promise<LoadedSnapshot> {
  const body = await readPrivateFile(bodyFile(directory))
  if (body === null) return { ok: false, reason: 'none' }
  const end = body.lastIndexOf('\n', body.length - 2) + 1
  const checksum = trailer.safeParse(parse(body.slice(end))).data?.checksum
  if (checksum === undefined || checksumOf([body.slice(0, end)]) !== checksum) return { ok: false, reason: 'damaged' }
  const [firstLine = '', ...rest] = body.slice(0, end).trimEnd().split('\n')
  const first = header.safeParse(parse(firstLine)).data
  if (first === undefined) return { ok: false, reason: 'damaged' }
  if (first.serial !== serial) return { ok: false, reason: 'foreign' }
  const endpoints = new Map<string, EndpointRecord>()
  for (const line of rest) {
    const record = storedRecord.safeParse(parse(line)).data
    if (record === undefined) return { ok: false, reason: 'damaged' }
    endpoints.set(record.uid, { ...record, ...readTags(record), ...(record.user === undefined ? {} : { user: sharedUser(record.user) }) })
  }
  const kept = await readCurrency(directory)
  const { revision, held, currentAt: since, heardBy } = kept?.checksum === checksum ? kept : first
  const currentAt = since !== null && since > now + MAX_AHEAD_MS ? null : since
  const snapshot = nextSnapshot(emptySnapshot, { whole: true, endpoints, tagNames: new Map(first.tagNames), revision, currentAt })
  return { ok: true, state: { snapshot, held, ...(heardBy === undefined ? {} : { heardBy }), early: new Map(first.early.map((each) => [each.uid, readTags(each)])) } }
}
