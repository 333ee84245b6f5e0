// Leases of ISC dhcpd (dhcpd.leases(5)): blocks, appended as they change, the last of an address counts. Names that clients send stand in quotes and can end no block.
import { deviceAddress, deviceMac } from '../../../domain/access/device-address.ts'
import { epochMs, latest, type Reading, type ToldSight } from './told-sight.ts'

/** dhcpd writes a line break within quotes as `\012`: a quote that does not end is over with its line, and costs no second look at what follows. */
const tokens = /"(?:\\[^\n]|[^"\\\n])*"?|#[^\n]*|[{};]|[^\s{};"#]+/g
/** A statement in a lease that is longer is none that we read. */
const MAX_WORDS = 64

/** `ends 3 2026/11/25 16:00:00` in UTC, or `ends epoch 1764086400`; null for never. */
function readEnd([kind, day = '', time = '']: readonly string[]): number | null {
  if (kind === 'epoch') return epochMs(day)
  const [, year, month, date] = /^(\d{4})\/(\d{2})\/(\d{2})$/.exec(day) ?? []
  if (year === undefined || !/^\d$/.test(kind ?? '') || !/^\d{2}:\d{2}:\d{2}$/.test(time)) return null
  const at = Date.parse(`${year}-${month ?? ''}-${date ?? ''}T${time}Z`)
  return Number.isNaN(at) ? null : at
}

/** `isRead`: it says in full who is there, or that nobody is. */
function sightOf(where: string, statements: readonly (readonly string[])[]): { readonly entry: readonly [string, ToldSight | null] | null; readonly isRead: boolean } {
  const address = deviceAddress(where)
  if (address === null) return { entry: null, isRead: false }
  const find = (...words: string[]) => statements.findLast((statement) => words.every((word, index) => statement[index] === word))?.slice(words.length)
  // Free, expired, released, abandoned, backup: nobody's now.
  if (find('binding', 'state')?.[0] !== 'active') return { entry: [address, null], isRead: true }
  const mac = deviceMac(find('hardware', 'ethernet')?.[0] ?? '')
  const until = readEnd(find('ends') ?? [])
  // What was said of the address before is void all the same.
  if (mac === null || until === null) return { entry: [address, null], isRead: false }
  return { entry: [address, { address, mac, uid: null, link: 'dhcpd', until }], isRead: true }
}

/** Whatever stands outside of `lease ADDRESS { … }`, and blocks within one, is passed over. */
export function readIscLeases(text: string, now: number): Reading {
  const entries: (readonly [string, ToldSight | null])[] = []
  let skipped = 0
  let depth = 0
  let where: string | null = null
  let statements: string[][] = []
  let words: string[] = []
  for (const [token] of text.matchAll(tokens)) {
    if (token.startsWith('#')) continue
    if (token === '{') {
      depth++
      if (depth === 1) {
        where = words[0] === 'lease' && words.length === 2 ? words[1] ?? null : null
        statements = []
      }
      words = []
    } else if (token === '}') {
      if (depth > 0) depth--
      words = []
      if (depth > 0 || where === null) continue
      const { entry, isRead } = sightOf(where, statements)
      where = null
      if (!isRead) skipped++
      if (entry !== null) entries.push(entry)
    } else if (token === ';') {
      if (depth === 1 && where !== null) statements.push(words)
      words = []
    } else if (words.length < MAX_WORDS) words.push(token)
  }
  return latest(entries, skipped, now)
}
