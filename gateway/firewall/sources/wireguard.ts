// Peers of a WireGuard interface with a recent handshake, by `wg show IF allowed-ips` and `… latest-handshakes`: unlike `dump`, these tell no keys but public ones.
import { deviceAddress } from '../../../domain/access/device-address.ts'
import { latest, type Reading, type ToldSight } from './told-sight.ts'

/** WireGuard's own limit (REJECT_AFTER_TIME): by then a peer that is there has made another handshake, if it sends anything. */
const HANDSHAKE_LASTS_MS = 180_000
const publicKey = /^[A-Za-z0-9+/]{43}=$/

const rows = (text: string): [key: string, value: string][] => text.split('\n').filter((line) => line !== '').map((line) => {
  const [key = '', value = ''] = line.split('\t')
  return [key, value]
})

/** @param uidOf the device behind a peer's public key; null: not known, then it is whoever claims the address */
export function readWireguard({ allowedIps, handshakes, link, uidOf }: { allowedIps: string; handshakes: string; link: string; uidOf: (key: string) => string | null }, now: number): Reading {
  const madeAt = new Map(rows(handshakes).map(([key, seconds]) => [key, /^[0-9]{1,12}$/.test(seconds) ? Number(seconds) * 1000 : 0]))
  const entries: [string, ToldSight | null][] = []
  let skipped = 0
  for (const [key, networks] of rows(allowedIps)) {
    // A clock that was set back must not make a sight last longer.
    const until = Math.min(madeAt.get(key) ?? 0, now) + HANDSHAKE_LASTS_MS
    if (!publicKey.test(key)) skipped++
    else if (networks !== '(none)') {
      for (const network of networks.split(' ')) {
        const [where = '', bits] = network.split('/')
        const address = deviceAddress(where)
        // A whole network behind a peer is many devices'.
        if (address === null || bits !== (where.includes(':') ? '128' : '32')) skipped++
        else entries.push([address, { address, mac: null, uid: uidOf(key), link, until }])
      }
    }
  }
  return latest(entries, skipped, now)
}
