// A device at an address as another program of this host tells it: a DHCP server by its leases, a VPN server by its clients. Read line by line; what is no sight is left out and counted.

export interface ToldSight {
  readonly address: string
  /** Of a lease; null for a client of a VPN. */
  readonly mac: string | null
  /** Of a client whom the VPN server knows as a device; null: whoever claims the address. */
  readonly uid: string | null
  /** What told it, as the EMS is told of interfaces. */
  readonly link: string
  /** ms. */
  readonly until: number
}

/** `skipped`: entries that are no sight: not well formed, without an end, of no single device. */
export interface Reading { readonly sights: readonly ToldSight[]; readonly skipped: number }

/** Of one source; those that end last stay. */
export const MAX_SIGHTS_OF_SOURCE = 20_000
/** What never ends, or is good for weeks, is no sight of anybody. */
export const LONGEST_MS = 7 * 86_400_000

/** Seconds of the Unix epoch, as ms; null when the text is none. */
export const epochMs = (text: string | undefined): number | null => (text !== undefined && /^[1-9][0-9]{0,11}$/.test(text) ? Number(text) * 1000 : null)

/** Later entries replace earlier ones of the same address; `null` takes it out. */
export function latest(entries: Iterable<readonly [address: string, sight: ToldSight | null]>, skipped: number, now: number): Reading {
  const byAddress = new Map<string, ToldSight>()
  let tooLong = 0
  for (const [address, sight] of entries) {
    if (sight !== null && sight.until > now + LONGEST_MS) tooLong++
    if (sight === null || sight.until <= now || sight.until > now + LONGEST_MS) byAddress.delete(address)
    else byAddress.set(address, sight)
  }
  const all = [...byAddress.values()].sort((a, b) => b.until - a.until)
  return { sights: all.slice(0, MAX_SIGHTS_OF_SOURCE), skipped: skipped + tooLong + Math.max(0, all.length - MAX_SIGHTS_OF_SOURCE) }
}
