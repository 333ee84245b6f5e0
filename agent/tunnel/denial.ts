// A refusal by a gateway, as the agent keeps it and shows it to the user. It explains; it decides nothing.
import { z } from 'zod'
import { decisionId } from '../../protocol/ids.ts'
import { line } from '../../protocol/text.ts'

/** One refused or cut session. `code` is the field's three digits, or `''` where the gateway gave none. */
export interface Denial {
  at: number
  /** `host:port` as the user's program asked for it. */
  destination: string
  /** The gateway's decision id, by which an administrator can look it up. */
  decision: string | null
  code: string
  reason: string
  message: string
  /** Names of the Zero Trust tags that decided it. */
  tags: string[]
}

/** What a gateway answers to a CONNECT that it refuses. Extra members are ignored. */
const refusal = z.object({
  decision: decisionId.nullable().default(null),
  code: z.string().regex(/^\d{3}$/),
  reason: z.string().regex(/^[a-z-]{1,64}$/),
  tags: z.array(z.object({ name: line(128) })).max(64).default([]),
  message: line(1000),
})

/** The most of a refusal that is read, in bytes. */
export const refusalLimit = 16_384

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch (error) {
    // A gateway in front of which something else answers: not ours to explain, but refused all the same.
    return { unreadable: String(error) }
  }
}

/**
 * Reads a gateway's refusal.
 * @param text the JSON body of the answer, at most {@link refusalLimit} bytes
 * @param status the HTTP status, told to the user where the body explains nothing
 * @returns always a denial: an unreadable explanation never turns a refusal into anything else
 */
export function readDenial(text: string, { status, destination, at }: { status: number; destination: string; at: number }): Denial {
  const parsed = refusal.safeParse(parseJson(text))
  if (!parsed.success) return { at, destination, decision: null, code: '', reason: 'unexplained', message: `The gateway refused ${destination} with status ${status} and gave no reason.`, tags: [] }
  const { decision, code, reason, message, tags } = parsed.data
  return { at, destination, decision, code, reason, message, tags: tags.map(({ name }) => name) }
}

/**
 * Reads why an open session was cut: trailer `sallyport-denial`, the same JSON percent-encoded.
 * @returns null when the gateway told nothing
 */
export function readCut(trailer: unknown, { destination, at }: { destination: string; at: number }): Denial | null {
  if (typeof trailer !== 'string' || trailer.length > refusalLimit) return null
  try {
    return readDenial(decodeURIComponent(trailer), { status: 403, destination, at })
  } catch (error) {
    if (!(error instanceof URIError)) throw error
    return readDenial('', { status: 403, destination, at })
  }
}

const mendBySignIn: Record<string, string> = { 'user-unverified': 'Sign in: agent sign-in', 'user-mismatch': 'Sign in as a user who may: agent sign-in' }
/**
 * What the person at this machine can do about it themselves; null: nothing, or the gateway has said it.
 * @param lacking names of tags that this machine has not because nobody is signed in on it who would do
 */
export const signInHint = ({ reason, message, tags }: Pick<Denial, 'reason' | 'message' | 'tags'>, lacking: readonly string[] = []): string | null =>
  (message.includes('agent sign-in') ? null : Object.hasOwn(mendBySignIn, reason) ? mendBySignIn[reason] ?? null : tags.some((tag) => lacking.includes(tag)) ? 'Sign in: agent sign-in' : null)

/** The sentence for the user's own program: what the gateway said, what to do, and what to quote to an administrator. */
export function denialText(denial: Denial): string {
  const particulars = [denial.code && `code ${denial.code}`, denial.reason, denial.decision && `decision ${denial.decision}`].filter(Boolean)
  const hint = signInHint(denial)
  // Of tags it is the rules that tell the mend, and the agent explains those.
  const why = denial.tags.length === 0 || denial.decision === null ? '' : `Why, and what to do: agent explain ${denial.decision}\n`
  return `${denial.message}${hint === null ? '' : `\n${hint}`}\n${particulars.join(', ')}\n${why}`
}
