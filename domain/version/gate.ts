// What a peer of an older protocol is kept from, and what it is told (M8).

export interface Gates {
  readonly dynamicGroups: boolean
  readonly certificates: boolean
  /** For people: what the peer misses. */
  readonly missing: string[]
}

/** Gates for a protocol version `major.minor.patch`; anything else opens none. */
export function gatesFor(version: string): Gates {
  const [major = 0, minor = 0] = /^\d{1,4}\.\d{1,4}\.\d{1,4}$/.test(version) ? version.split('.').map(Number) : []
  const dynamicGroups = major > 6 || (major === 6 && minor >= 2)
  const certificates = major >= 7
  return {
    dynamicGroups, certificates,
    missing: [...(dynamicGroups ? [] : ['dynamic endpoint groups need 6.2.0 or later']), ...(certificates ? [] : ['device certificates and the tunnel need 7.0.0 or later'])],
  }
}
