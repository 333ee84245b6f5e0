// The names that things bear on the wire. Every one has a closed shape, so that none can carry SQL, paths or markup.
import { z } from 'zod'

/** An endpoint's UID: made by the EMS at enrolment, 128 random bits in lower-case hex. */
export const uid = z.string().regex(/^[0-9a-f]{32}$/, 'must be 32 lower-case hex digits')
/** A gateway's serial number, assigned by the EMS when it joins. */
export const gatewaySerial = z.string().regex(/^SPGW[0-9A-F]{12}$/, 'must be a gateway serial, like SPGW0123456789AB')
/** The EMS's own serial number, made once per deployment. */
export const emsSerial = z.string().regex(/^SPEMS[0-9A-F]{12}$/, 'must be an EMS serial, like SPEMS0123456789AB')
/** A certificate serial number: 20 bytes in upper-case hex. */
export const certificateSerial = z.string().regex(/^[0-9A-F]{40}$/, 'must be 40 upper-case hex digits')
/** Ids of tags, rule sets, profiles, policies, invitations and join codes (UUID, RFC 9562). */
export const uuid = z.string().regex(/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/, 'must be a lower-case UUID')
/** A decision's id: `D`, the 12 hex digits of the gateway serial, a hyphen, 16 Crockford base32 characters. It names the gateway that can explain it. */
export const decisionId = z.string().regex(/^D[0-9A-F]{12}-[0-9A-HJKMNP-TV-Z]{16}$/, 'must be a decision id')

/** The serial of the gateway that took a decision. */
export const gatewayOfDecision = (id: string): string => `SPGW${id.slice(1, 13)}`

/** Agent and gateway protocol version, `major.minor.patch`. */
export const protocolVersion = z.string().regex(/^\d{1,4}\.\d{1,4}\.\d{1,4}$/, 'must be a version like 7.0.0')
/** The protocol this code speaks. */
export const PROTOCOL = '7.0.0'

export type Uid = z.infer<typeof uid>
export type GatewaySerial = z.infer<typeof gatewaySerial>
