// Access decisions as they are logged, shown and joined by id. How one is reached is in domain/access.
import { z } from 'zod'
import { certificateSerial, decisionId, gatewaySerial, uid } from './ids.ts'
import { instant, line, lineOrEmpty } from './text.ts'
import { tagExplanation } from './rules.ts'

/** Reason → code that the field knows (see the table of the fabric wire). `allowed` has none. */
export const reasons = {
  'allowed': '000',
  'no-certificate': '002',
  'no-certificate-manageable': '003',
  'certificate-invalid': '001',
  'certificate-expired': '001',
  'certificate-wrong-purpose': '001',
  'certificate-revoked': '063',
  'certificate-unknown': '066',
  'endpoint-unknown': '066',
  'endpoint-deregistered': '063',
  'endpoint-quarantined': '064',
  'service-unknown': '021',
  'path-ambiguous': '021',
  'address-refused': '021',
  'name-not-resolved': '023',
  'upstream-unreachable': '022',
  'ssh-host-key': '022',
  'portal-error': '041',
  'no-policy-matched': '061',
  'fabric-mismatch': '061',
  'ownership-mismatch': '061',
  'country-mismatch': '061',
  'user-mismatch': '061',
  'outside-schedule': '061',
  'denied-by-policy': '062',
  'denied-by-tag': '064',
  'tag-missing': '065',
  'tag-unknown': '066',
  'ownership-unknown': '066',
  'country-unknown': '066',
  'user-unverified': '066',
  'snapshot-missing': '067',
  'snapshot-stale': '067',
  'endpoint-offline': '067',
  'deadline-passed': '061',
  'overloaded': '022',
  'gateway-stopping': '022',
} as const
export type Reason = keyof typeof reasons
export const reason = z.enum(Object.keys(reasons) as [Reason, ...Reason[]])

/** What a session carries. */
export const accessProtocol = z.enum(['tcp', 'udp', 'https'])
export type AccessProtocol = z.infer<typeof accessProtocol>

/** One decision, as the gateway keeps and logs it. */
export const decision = z.object({
  id: decisionId,
  at: instant,
  gateway: gatewaySerial,
  allowed: z.boolean(),
  reason,
  code: z.string(),
  /** `decide` for a new session, `recheck` when an open one was decided again. */
  event: z.enum(['decide', 'recheck']),
  uid: uid.nullable(),
  certificateSerial: certificateSerial.nullable(),
  /** Whom an identity provider vouched for on that endpoint then, by e-mail or subject; absent: nobody, or it is not known. */
  user: z.object({ name: line(256), issuer: line(256) }).optional(),
  protocol: accessProtocol,
  service: line(128).nullable(),
  destination: lineOrEmpty(300),
  policy: line(128).nullable(),
  /** Tags that decided it: missing, unknown or denying. Names as the gateway knows them. */
  tags: z.array(z.object({ uid: z.string().nullable(), name: z.string(), state: z.enum(['present', 'absent', 'unknown']) })),
  /** Snapshot it was decided from: its revision, and ms since it was last known current (null: never). */
  revision: z.string(),
  snapshotAgeMs: z.number().int().nullable(),
  source: z.string(),
  /** Where `source` is (ISO 3166-1); absent: no policy asked, or it is not known. */
  country: z.string().optional(),
  validUntil: instant.nullable(),
  /** For a cut session: the decision that had let it in. */
  session: decisionId.nullable(),
  /** What a report-only policy would have decided; absent: none would have. */
  shadow: z.object({ policy: line(128), allowed: z.boolean(), reason, code: z.string() }).optional(),
})
export type Decision = z.infer<typeof decision>

/** The end of a session that a decision had let in, kept beside the decisions. */
export const sessionEnd = z.object({
  event: z.literal('end'),
  /** The decision that let it in. */
  session: decisionId,
  /** The decision that cut it; null: it ended by itself. */
  cutBy: decisionId.nullable(),
  at: instant,
  gateway: gatewaySerial,
  uid: uid.nullable(),
  protocol: accessProtocol,
  service: line(128).nullable(),
  destination: lineOrEmpty(300),
  source: z.string(),
  durationMs: z.number().int(),
  /** Carried from the client, and to it; headers are not counted. */
  bytesUp: z.number().int(),
  bytesDown: z.number().int(),
  /** UDP alone: datagrams carried each way, and those for which there was no room. */
  datagrams: z.object({ up: z.number().int(), down: z.number().int(), dropped: z.number().int() }).optional(),
})
export type SessionEnd = z.infer<typeof sessionEnd>

/** A decision joined with why the endpoint has or lacks the tags that decided it. */
export const decisionExplanation = z.object({ decision, tags: z.array(tagExplanation) })
export type DecisionExplanation = z.infer<typeof decisionExplanation>
