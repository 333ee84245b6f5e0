// What an agent is configured with, and only by an endpoint policy of the EMS (M9): profile, policy, licence.
import { z } from 'zod'
import { gatewaySerial, uuid } from './ids.ts'
import { hostName, instant, line, port } from './text.ts'

const portRange = z.union([port, z.strictObject({ from: port, to: port }).refine((r) => r.from <= r.to, 'from must not exceed to')])

/** A protected destination: traffic to it goes through a gateway, all other traffic stays direct. */
export const destination = z.strictObject({
  /** An exact name, `*.suffix`, or a CIDR range. */
  match: z.union([hostName, z.string().regex(/^\*\.[a-z0-9.-]{1,251}$/), z.cidrv4(), z.cidrv6()]),
  ports: z.array(portRange).min(1).max(32),
  gateway: gatewaySerial,
  /** Gateways that lead to the same place, used in this order while those before are unreachable, draining or stale; never because one has refused. */
  fallbacks: z.array(gatewaySerial).max(7).optional(),
}).refine(({ gateway, fallbacks = [] }) => new Set([gateway, ...fallbacks]).size === fallbacks.length + 1, 'a gateway is named once')
export type Destination = z.infer<typeof destination>

/** Where a gateway listens. Its identity is its serial in a certificate of the EMS, never its name in DNS. */
export const gatewayAddress = z.strictObject({ serial: gatewaySerial, host: z.union([hostName, z.ipv4(), z.ipv6()]), port })
export type GatewayAddress = z.infer<typeof gatewayAddress>

/** A name that browsers reach through a gateway without the agent's proxy: exact, or `*.suffix`. */
export const browserService = z.union([hostName, z.string().regex(/^\*\.[a-z0-9](?:[a-z0-9.-]{0,249}[a-z0-9])?$/)])

export const profileSettings = z.strictObject({
  /** What the agent does when the EMS's TLS certificate fails by name or date; documents must verify in every mode. */
  invalidCertificateAction: z.enum(['deny', 'warn', 'allow']).default('deny'),
  gateways: z.array(gatewayAddress).max(64).default([]),
  destinations: z.array(destination).max(1000).default([]),
  /** HTTPS services for which browsers present a certificate of this endpoint without asking; none: browsers get no certificate. */
  browserServices: z.array(browserService).max(256).default([]),
  /** Ports of the local proxy on loopback; 0 picks a free one. */
  proxy: z.strictObject({ httpPort: z.number().int().min(0).max(65535), socksPort: z.number().int().min(0).max(65535) }).default({ httpPort: 8630, socksPort: 8631 }),
  /** `transparent`: programs without proxy settings are served too, where the agent may change the machine's hosts file and packet filter. */
  tunnel: z.strictObject({ transparent: z.boolean().default(false) }).default({ transparent: false }),
  /** What the user may set about themselves. */
  userMaySet: z.array(z.enum(['fullName', 'email', 'phone', 'avatar', 'socialIds'])).default(['fullName', 'email', 'phone', 'avatar', 'socialIds']),
  /** How often each slow probe looks again; fast ones are driven by events. */
  cadenceSeconds: z.strictObject({ inventory: z.number().int().min(60).max(86400), security: z.number().int().min(10).max(86400) }).default({ inventory: 3600, security: 60 }),
})
export type ProfileSettings = z.infer<typeof profileSettings>

export const profileInput = z.strictObject({ name: line(128), settings: profileSettings })
export const profile = z.object({ id: uuid, name: line(128), settings: profileSettings, updatedAt: instant })
export type Profile = z.infer<typeof profile>

/** An ordered policy: the first enabled one whose target matches gives the endpoint its profile. */
export const endpointPolicyInput = z.strictObject({
  name: line(128),
  enabled: z.boolean().default(true),
  /** Lower comes first. */
  position: z.number().int().min(0).max(1_000_000),
  /** Groups of endpoints; empty means every endpoint. */
  groups: z.array(line(128)).max(64).default([]),
  profileId: uuid,
  /** The profile while the endpoint is off the fabric, or nobody knows where it is; the same one unless said. */
  offFabricProfileId: uuid.optional(),
})
export const endpointPolicy = z.object({ id: uuid, name: line(128), enabled: z.boolean(), position: z.number().int(), groups: z.array(line(128)), profileId: uuid, offFabricProfileId: uuid.optional() })
export type EndpointPolicy = z.infer<typeof endpointPolicy>

/** The body of the signed `profile` document. */
export const assignedProfile = z.object({
  profile: z.object({ id: uuid, name: z.string() }),
  policy: z.object({ id: uuid, name: z.string() }),
  settings: profileSettings,
})
export type AssignedProfile = z.infer<typeof assignedProfile>

export const licenceInput = z.strictObject({
  /** null: unlimited. A budget, not a paywall. */
  seats: z.number().int().min(0).max(10_000_000).nullable().default(null),
  features: z.array(line(64)).max(64).default(['all']),
  endsAt: instant.nullable().default(null),
})
export const licence = licenceInput.extend({ issuedAt: instant })
export type Licence = z.infer<typeof licence>
/** The body of the signed `licence` document that an endpoint gets. */
export const licenceState = z.object({ state: z.enum(['seated', 'expired']), features: z.array(z.string()), endsAt: instant.nullable() })
export type LicenceState = z.infer<typeof licenceState>
