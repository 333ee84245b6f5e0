// Hosts as they are compared: names in lower case, addresses in one form. What is not certainly an address is a name.
import ipaddr from 'ipaddr.js'

export type Address = ipaddr.IPv4 | ipaddr.IPv6

/** An address, IPv4 inside IPv6 taken out; null when it is none. */
export function readAddress(text: string): Address | null {
  return ipaddr.IPv4.isValidFourPartDecimal(text) || ipaddr.IPv6.isValid(text) ? ipaddr.process(text) : null
}

/** An address in normal form, IPv4 inside IPv6 taken out; null when it is none. */
export const normalAddress = (text: string): string | null => readAddress(text)?.toString() ?? null

/** Every address ends in a digit of its base or in a colon, and no host name that is asked for often does: parsing is for those alone. */
const mayBeAddress = (text: string): boolean => text.includes(':') || /\d$/.test(text)

/** A host as asked for: lower case, no final dot, an address in normal form and read. */
export function readHost(text: string): { readonly host: string; readonly address: Address | null } {
  const bare = text.startsWith('[') && text.endsWith(']') ? text.slice(1, -1) : text
  const address = mayBeAddress(bare) ? readAddress(bare) : null
  return address !== null ? { host: address.toString(), address } : { host: bare.toLowerCase().replace(/\.$/, ''), address: null }
}

export const normalHost = (text: string): string => readHost(text).host
