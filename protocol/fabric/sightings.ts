// What a gateway saw itself: which device answered at which address. Only such a sight brings an address into a tag's address list; an agent's own word says where to look.
import { z } from 'zod'
import { gatewaySerial, uid } from '../ids.ts'

/** A sight that is not repeated for this long is over. */
export const SIGHT_SECONDS = 300
/** How often a gateway repeats what it sees, whole and as a snapshot: nothing changed costs the EMS no row of it. */
export const SIGHT_REPORT_SECONDS = 60
/** Addresses of one kind that a gateway may see at once; more are rejected. */
export const MAX_SIGHTS = 10_000

// Loose on purpose: what does not read as a MAC, an address or a gateway is rejected by itself, and the rest is taken.
const word = z.string().max(64)
const name = z.string().max(64).default('')
/** Whose sights the list tells; the caller's when left out. A root gateway may tell those of the members it vouched for. */
const serials = z.array(gatewaySerial).max(100).optional()

/** The neighbour tables (ARP, NDP): a MAC and the addresses at which it answers on an interface of gateway `sn`. */
export const gatewayMacBody = z.object({
  gateway_mac_list: z.array(z.object({
    mac: word, vdom: name, ip_list: z.array(word).max(64).default([]), interface: name, sn: name,
    /** No longer seen (our addition). */
    is_delete: z.boolean().optional(),
  })).max(MAX_SIGHTS),
  /** This is all that `sn_list` sees: what it does not name is no longer seen (our additions). Without it a sight lasts {@link SIGHT_SECONDS} from when it was last named. */
  is_snapshot: z.boolean().default(false),
  sn_list: serials,
})
/** Each entry that was not taken, whole or in part, and why. */
export const rejectedMacs = z.array(z.object({ mac: z.string(), vdom: z.string(), ip_list: z.array(z.string()), interface: z.string(), sn: z.string(), reason: z.string() }))

/** Connections that a device proved its UID for, and the address at their end. */
export const vpnBody = z.object({
  is_snapshot: z.boolean().default(false),
  sn_list: serials,
  uid_list: z.array(z.object({
    uid: word, vdom: name, interface: name, sn: name, ip: word, is_delete: z.boolean().optional(),
    /**
     * `vpn` (default, published): the gateway gave the device that address. `mtls` (our addition): the address its mutual TLS
     * connection came from. That one counts only where the agent says it is its own, for behind a NAT it is everybody's.
     */
    kind: z.enum(['vpn', 'mtls']).default('vpn'),
  })).max(MAX_SIGHTS),
})
export const rejectedConnections = z.object({ rejected: z.array(z.object({ uid: z.string(), ip: z.string(), sn: z.string(), reason: z.string() })) })

/** How an address came to be known as a device's. */
export const sightKind = z.enum(['neighbour', 'vpn', 'mtls'])
export type SightKind = z.infer<typeof sightKind>

/** What a gateway may see, what it is told, and why: for administrators. */
export const gatewaySight = z.object({
  serial: gatewaySerial, state: z.enum(['pending', 'authorised', 'denied']), shareMode: z.union([z.literal(0), z.literal(1), z.literal(2)]),
  /** Gateways whose subscriptions bound what it sees; null: it sees every endpoint. */
  owners: z.array(gatewaySerial).nullable(),
  /** Gateways whose sights bring addresses into its lists; null: every one's. */
  trusts: z.array(gatewaySerial).nullable(),
  tagTypes: z.array(z.object({ type: z.number().int(), name: z.string() })),
  protocol: z.string().nullable(), missing: z.array(z.string()),
  counts: z.object({
    /** Registered endpoints of this EMS; those it subscribed to itself; those its object holds in sight (null: it is not authorised). */
    endpoints: z.number().int(), subscribed: z.number().int(), inSight: z.number().int().nullable(),
    /** Tags there are, and those of types that it is told. */
    tags: z.number().int(), tagsTold: z.number().int(),
    /** Addresses that it sees itself. */
    sights: z.number().int(), sockets: z.number().int(),
  }),
  /** ms: when it last told all its neighbours and connections; null: never. */
  neighboursAt: z.number().int().nullable(), connectionsAt: z.number().int().nullable(),
  /** Rows of the change log that its object has not taken yet; null: it has taken none. */
  behind: z.number().int().nullable(),
  /** Why, in sentences. */
  because: z.array(z.string()),
})
/** Whether a gateway sees one endpoint, its tags and its addresses, and why. */
export const endpointSight = z.object({
  serial: gatewaySerial, uid, seen: z.boolean(), because: z.string(),
  tags: z.array(z.object({ uid: z.string(), name: z.string(), state: z.enum(['present', 'unknown']), told: z.boolean(), because: z.string() })),
  addresses: z.array(z.object({ gateway: gatewaySerial, kind: sightKind, vdom: z.string(), interface: z.string(), ip: z.string(), mac: z.string(), counts: z.boolean(), because: z.string() })),
  /** Where the endpoint says it is: what no gateway sees of it opens nothing. */
  claims: z.object({ ips: z.array(z.string()), macs: z.array(z.string()) }),
})
