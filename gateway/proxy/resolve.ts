// From a service and a host to addresses that may be dialled. Resolved once; what is not in the answer is never connected to.
import { lookup } from 'node:dns/promises'
import { networkInterfaces } from 'node:os'
import ipaddr from 'ipaddr.js'
import { normalAddress } from '../../domain/access/host.ts'
import type { Service } from '../../domain/access/service.ts'
import type { Timers } from './timers.ts'

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

const ownAddresses = (): Set<string> => new Set(Object.values(networkInterfaces()).flat().map((entry) => normalAddress(entry?.address ?? '') ?? ''))

/** Whether a declared name must not lead here: it would reach the gateway itself, its host's neighbours or a cloud's credentials. */
function isSpecial(address: string, alsoRefused: ReadonlySet<string>): boolean {
  return !ordinary.has(ipaddr.process(address).range()) || metadata.has(address) || alsoRefused.has(address) || ownAddresses().has(address)
}

/**
 * Resolves and checks.
 * @param alsoRefused further addresses that only a service which lists them may reach (the EMS's)
 */
export function createResolver({ resolve, alsoRefused, timers }: { resolve: Resolve; alsoRefused: () => readonly string[]; timers: Timers }) {
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
