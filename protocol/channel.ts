// The endpoint channel: the agent's one websocket. Hints go down it; whatever must happen is also found by asking.
import { z } from 'zod'
import { base64, instant, sha256Hex } from './text.ts'
import { documentKind, documentVersions, signedDocument } from './documents.ts'
import { protocolVersion } from './ids.ts'

export const CHANNEL_SUBPROTOCOL = 'sallyport.channel.v1'
/** Text frames answered by the platform without waking the object. */
export const CHANNEL_PING = 'ping'
export const CHANNEL_PONG = 'pong'
/** How often an agent pings; presence is the age of the last one. */
export const CHANNEL_PING_SECONDS = 60

/** EMS → agent. */
export const toAgent = z.discriminatedUnion('type', [
  /** The first frame on the socket: sign it (see SOCKET_CHALLENGE_CONTEXT). */
  z.object({ type: z.literal('challenge'), challenge: sha256Hex }),
  z.object({ type: z.literal('welcome'), at: instant }),
  /** A newer document; a deregistration comes this way too. */
  z.object({ type: z.literal('document'), kind: documentKind, document: signedDocument }),
  /** Check everything now and report. */
  z.object({ type: z.literal('report-now') }),
  /** These are the newest versions of the standing documents: fetch what is older, at a moment of your own choice within `spreadMs`. */
  z.object({ type: z.literal('newer'), versions: documentVersions, spreadMs: z.number().int().min(0).max(600_000) }),
  z.object({ type: z.literal('bye'), reason: z.enum(['revoked', 'deregistered', 'replaced', 'bad-challenge', 'bad-message', 'too-slow']) }),
])
export type ToAgent = z.infer<typeof toAgent>

/** Agent → EMS. */
export const fromAgent = z.discriminatedUnion('type', [
  /** ECDSA P-256 SHA-256 signature (IEEE P1363, base64) of the challenge. */
  z.strictObject({ type: z.literal('answer'), signature: base64(64) }),
  z.strictObject({ type: z.literal('hello'), protocol: protocolVersion, have: documentVersions }),
])
export type FromAgent = z.infer<typeof fromAgent>
/** A larger frame closes the socket. */
export const MAX_AGENT_FRAME_BYTES = 4096
