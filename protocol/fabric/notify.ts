// FcmNotify's socket. A frame from the server is a JSON array of messages, so that a notice and its `current` are one frame.
import { z } from 'zod'
import { base64, instant, sha256Hex } from '../text.ts'
import { decisionId, protocolVersion, uid } from '../ids.ts'
import { decision } from '../decisions.ts'
import { heldWatermark, watermark } from './envelope.ts'
import { sysinfoRecord, tableName, uidTags } from './tables.ts'

export const NOTIFY_SUBPROTOCOL = 'fcmnotify.v1'
export const NOTIFY_PING = 'ping'
export const NOTIFY_PONG = 'pong'
/** Largest frame either way. */
export const MAX_NOTIFY_FRAME_BYTES = 1_000_000

export const toGateway = z.discriminatedUnion('type', [
  z.object({ type: z.literal('challenge'), challenge: sha256Hex }),
  /**
   * A table changed. `after` is the watermark that the increment continues from: a gateway that holds another one
   * ignores `data` and pulls. `data` has the shape of the report page's data.
   */
  z.object({ type: z.literal('changed'), table: tableName, after: watermark, updated_after: watermark, at: instant, data: z.unknown().optional() }),
  /**
   * All up to here is told; only this restarts the staleness clock. A gateway that has applied what it was told holds
   * every table at this watermark: the next notice continues from it. `after` is the watermark of the `current` before it on this
   * socket, empty for the first: a gateway that heard another one has missed a frame, and reads every table before it believes this.
   */
  z.object({ type: z.literal('current'), revision: watermark, after: watermark, at: instant }),
  /** What the gateway holds can't be continued: load that table whole. */
  z.object({ type: z.literal('reload'), table: tableName }),
  z.object({ type: z.literal('found'), uid, sysinfo: sysinfoRecord.nullable(), tags: uidTags.nullable() }),
  z.object({ type: z.literal('authorisation'), state: z.enum(['authorised', 'pending', 'denied']), reason: z.string() }),
  z.object({ type: z.literal('ca'), document: z.string() }),
  /** An administrator asks for a decision that this gateway took. */
  z.object({ type: z.literal('explain'), request: z.string(), id: decisionId }),
  z.object({ type: z.literal('bye'), reason: z.enum(['deauthorised', 'revoked', 'replaced', 'bad-challenge', 'bad-message', 'too-slow']) }),
])
export type ToGateway = z.infer<typeof toGateway>
export const serverFrame = z.array(toGateway)

const have = z.strictObject({ sysinfo: heldWatermark, uid_tags: heldWatermark, tags: heldWatermark, host_tags: heldWatermark, vuln: heldWatermark, avatar: heldWatermark }).partial()
export const fromGateway = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('answer'), signature: base64(64) }),
  z.strictObject({ type: z.literal('hello'), protocol: protocolVersion, have }),
  z.strictObject({ type: z.literal('applied'), table: tableName, updated_after: watermark }),
  z.strictObject({ type: z.literal('lookup'), uid }),
  z.strictObject({ type: z.literal('explained'), request: z.string().max(64), decision: decision.nullable() }),
])
export type FromGateway = z.infer<typeof fromGateway>
