// Clients of any other VPN server, as its hook writes them: one a line, `ADDRESS [UID or -] [UNTIL]`, the end in seconds of the epoch; `#` begins a comment.
import { deviceAddress } from '../../../domain/access/device-address.ts'
import { uid as uidText } from '../../../protocol/ids.ts'
import { epochMs, latest, type Reading, type ToldSight } from './told-sight.ts'

/** @param goodUntil ms: when a line without an end of its own ends, counted from when the list was written */
export function readClientList(text: string, link: string, goodUntil: number, now: number): Reading {
  const entries: [string, ToldSight | null][] = []
  const told = new Set<string>()
  let skipped = 0
  for (const line of text.split('\n')) {
    const [where = '', device = '-', end, ...rest] = line.replace(/#.*/, '').trim().split(/\s+/)
    if (where === '') continue
    const address = deviceAddress(where)
    const until = end === undefined ? goodUntil : epochMs(end)
    const uid = device === '-' ? null : uidText.safeParse(device)
    if (address === null || until === null || uid?.success === false || rest.length > 0) skipped++
    else if (told.has(address)) {
      // Two clients at one address: nobody can say whose a packet is.
      entries.push([address, null])
      skipped++
    } else {
      told.add(address)
      entries.push([address, { address, mac: null, uid: uid?.data ?? null, link, until }])
    }
  }
  return latest(entries, skipped, now)
}
