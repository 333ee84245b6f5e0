// Where a gateway stands that an administrator marked as the fabric's own: which of its sights say that a device is there.
import { z } from 'zod'

// Wider than these is no place: everybody is in the internet.
const WIDEST = { v4: 8, v6: 16 }
const bitsOf = (cidr: string): number => Number(cidr.slice(cidr.indexOf('/') + 1))
const network = z.union([
  z.cidrv4().refine((cidr) => bitsOf(cidr) >= WIDEST.v4, `an IPv4 network of /${WIDEST.v4} or less`), z.cidrv6().refine((cidr) => bitsOf(cidr) >= WIDEST.v6, `an IPv6 network of /${WIDEST.v6} or less`),
], { error: 'must be a network like 10.20.0.0/16' })

export const fabricPlace = z.strictObject({
  /** A device that proves its UID by mutual TLS from one of these is there. Never the range that a VPN gives out. */
  networks: z.array(network).max(64).default([]),
  /** Whoever answers with its MAC on a link of the gateway is there. */
  neighbours: z.boolean().default(true),
})
export type FabricPlace = z.infer<typeof fabricPlace>
