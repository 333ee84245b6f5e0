// From a service and a host to addresses that may be dialled. Resolved once; what is not in the answer is never connected to.
import { lookup } from 'node:dns/promises'
import { networkInterfaces } from 'node:os'
import ipaddr from 'ipaddr.js'
import { normalAddress } from '../../domain/access/host.ts'
import type { Service } from '../../domain/access/service.ts'
import type { Timers } from '../../node/timers.ts'

export type Resolve = (host: string) => Promise<readonly string[]>
export type Resolution =
  | { readonly ok: true; readonly addresses: readonly string[] }
  | { readonly ok: false; readonly reason: 'name-not-resolved' | 'address-refused'; readonly detail: string }

const RESOLVE_LIMIT = 5_000
const ordinary = new Set(['unicast', 'private', 'uniqueLocal', 'carrierGradeNat'])
/** Metadata services of clouds that lie outside link-local ranges. */
const metadata = new Set(['169.254.169.254', 'fd00:ec2::254', '100.100.100.200', '168.63.129.16'])

/** The system's resolver, hosts file included. */
export const systemResolve: Resolve = async (host) => (await lookup(host, { all: true })).map(({ address }) => address)

const readOwnAddresses = (): Set<string> => new Set(Object.values(networkInterfaces()).flat().map((entry) => normalAddress(entry?.address ?? '') ?? ''))

/** How long the list of the host's own addresses is kept: asking the kernel costs more than a decision. */
const OWN_FOR = 1_000
/** How long what was resolved and checked for an HTTPS service serves its next requests. */
const SERVES_FOR = 5_000

/**
 * Resolves and checks.
 * @param alsoRefused further addresses that only a service which lists them may reach (the EMS's)
 */
export function createResolver({ resolve, alsoRefused, timers }: { resolve: Resolve; alsoRefused: () => readonly string[]; timers: Timers }) {
  let own: Set<string> | null = null
  const ownAddresses = (): Set<string> => {
    if (own === null) {
      own = readOwnAddresses()
      timers.after(OWN_FOR, () => {
        own = null
      })
    }
    return own
  }
  /** Whether a declared name must not lead here: it would reach the gateway itself, its host's neighbours or a cloud's credentials. */
  const isSpecial = (address: string, refused: ReadonlySet<string>): boolean =>
    !ordinary.has(ipaddr.process(address).range()) || metadata.has(address) || refused.has(address) || ownAddresses().has(address)

  async function ask(host: string): Promise<readonly string[]> {
    const literal = normalAddress(host)
    if (literal !== null) return [literal]
    const { promise, reject } = Promise.withResolvers<never>()
    const stop = timers.after(RESOLVE_LIMIT, () => reject(new Error(`no answer within ${RESOLVE_LIMIT} ms`)))
    try {
      return await Promise.race([resolve(host), promise])
    } finally {
      stop()
    }
  }
  return async (service: Service, host: string): Promise<Resolution> => {
    let found: readonly string[]
    try {
      found = await ask(host)
    } catch (error) {
      return { ok: false, reason: 'name-not-resolved', detail: error instanceof Error ? error.message : String(error) }
    }
    const addresses = found.map(normalAddress).filter((address) => address !== null)
    if (addresses.length === 0) return { ok: false, reason: 'name-not-resolved', detail: 'the name has no address' }
    const refused = new Set(alsoRefused().map((address) => normalAddress(address) ?? address))
    const allowed = addresses.filter((address) => service.addresses.has(address) || !isSpecial(address, refused))
    return allowed.length > 0 ? { ok: true, addresses: allowed } : { ok: false, reason: 'address-refused', detail: `${host} leads to ${addresses.join(', ')}` }
  }
}
export type Resolver = ReturnType<typeof createResolver>

/** Resolves as `resolver` does, once for many: what comes within five seconds gets the addresses that were checked then. Failures are not kept. */
export function rememberResolved(resolver: Resolver, timers: Timers): Resolver {
  const known = new WeakMap<Service, Map<string, Promise<Resolution>>>()
  return (service, host) => {
    const those = known.get(service) ?? new Map<string, Promise<Resolution>>()
    known.set(service, those)
    const kept = those.get(host)
    if (kept !== undefined) return kept
    const asked = resolver(service, host)
    those.set(host, asked)
    const forget = () => {
      if (those.get(host) === asked) those.delete(host)
    }
    timers.after(SERVES_FOR, forget)
    return asked.then((resolution) => {
      if (!resolution.ok) forget()
      return resolution
    })
  }
}
