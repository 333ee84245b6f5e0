// Addresses by which a packet filter may know a device: which ones can stand for one device, and what a device claims. It believes nothing.
import ipaddr from 'ipaddr.js'

/** Ranges in which one address is one machine's, wherever the packet is seen. Link-local addresses are each link's own. */
const distinct = new Set(['unicast', 'private', 'uniqueLocal', 'carrierGradeNat'])
const macShape = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/
/** A device that claims thousands of addresses must not fill every gateway. */
const MAX_CLAIMED = 16

/** An address in normal form when it can stand for one device; null otherwise. */
export function deviceAddress(text: string): string | null {
  if (!ipaddr.IPv4.isValidFourPartDecimal(text) && !ipaddr.IPv6.isValid(text)) return null
  // IPv4 inside IPv6 is the same machine as IPv4 alone.
  const address = ipaddr.process(text)
  return distinct.has(address.range()) ? address.toString() : null
}

/** A MAC in lower case when it is one interface's own: neither a group's nor all zeros; null otherwise. */
export function deviceMac(text: string): string | null {
  const mac = text.toLowerCase()
  return macShape.test(mac) && (Number.parseInt(mac.slice(0, 2), 16) & 1) === 0 && mac !== '00:00:00:00:00:00' ? mac : null
}

const firstOf = (values: readonly string[], read: (text: string) => string | null): string[] =>
  [...new Set(values.map(read).filter((value) => value !== null))].slice(0, MAX_CLAIMED)

/** What a device says of where it is, in normal form: the first 16 of each kind that can stand for one device. */
export const claimedAddresses = (addresses: readonly string[]): string[] => firstOf(addresses, deviceAddress)
export const claimedMacs = (macs: readonly string[]): string[] => firstOf(macs, deviceMac)
