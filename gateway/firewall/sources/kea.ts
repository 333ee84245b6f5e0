// Leases of Kea's memfile backend: CSV under a line that names the columns, appended as they change, the last of an address counts. Kea writes commas within a field as `&#x2c`.
import { deviceAddress, deviceMac } from '../../../domain/access/device-address.ts'
import { epochMs, latest, type Reading, type ToldSight } from './told-sight.ts'

/** Endless, by RFC 2131. */
const FOR_EVER = '4294967295'
/** `state`: in use. Others are declined, reclaimed, released. */
const IN_USE = '0'
/** `lease_type` of DHCPv6: a prefix is no device's address. */
const ADDRESS = '0'

/** Reads one file, or several joined, the older first: the line of names may come again. */
export function readKeaLeases(text: string, now: number): Reading {
  const entries: [string, ToldSight | null][] = []
  let skipped = 0
  let columns: Map<string, number> | null = null
  for (const line of text.split(/\r?\n/)) {
    if (line === '') continue
    const fields = line.split(',')
    if (fields[0] === 'address') {
      columns = new Map(fields.map((name, index) => [name, index]))
      continue
    }
    const field = (name: string) => fields[columns?.get(name) ?? -1]
    const address = deviceAddress(field('address') ?? '')
    // A line that is being written is shorter; it is read whole the next time.
    if (columns === null || fields.length !== columns.size || address === null || (field('lease_type') ?? ADDRESS) !== ADDRESS) {
      skipped++
      continue
    }
    if (field('state') !== IN_USE || field('valid_lifetime') === '0') {
      entries.push([address, null])
      continue
    }
    const [mac, until] = [deviceMac(field('hwaddr') ?? ''), epochMs(field('expire'))]
    // What was said of the address before is void all the same.
    entries.push([address, mac === null || until === null || field('valid_lifetime') === FOR_EVER ? null : { address, mac, uid: null, link: 'kea', until }])
    if (mac === null || until === null || field('valid_lifetime') === FOR_EVER) skipped++
  }
  return latest(entries, skipped, now)
}
