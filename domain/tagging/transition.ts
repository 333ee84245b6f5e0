// The verdict of a rule set as it is stored; and what stands of the one before an edit while agents owe an answer to what the edit asks: for a while, and never against what is known.
import type { Reach, Timed } from './logic.ts'

/** What the facts say of a rule set. `open`: it is unknown because an agent has not answered yet, and what it can still come to; null: nobody is waited for. */
export interface Worked extends Timed { readonly open: Reach | null }

export interface RuleVerdict extends Timed {
  /** It waits for an agent's answer. */
  readonly owes?: true
  /** ms: it is the verdict from before an edit, and stands until then at most. Once set it is not put off, however often the rule set is edited. */
  readonly standsUntil?: number
}

/**
 * The verdict to store.
 * @param before the verdict that the endpoint had
 * @param until ms: until when an edit lets that one stand; null: it does not
 */
export function settled({ value, validUntil, open }: Worked, before: RuleVerdict, until: number | null, now: number): RuleVerdict {
  if (open === null) return { value, validUntil }
  // It would have fallen by itself then: no edit makes it stand longer.
  const standsUntil = until === null ? null : before.standsUntil ?? Math.min(until, before.validUntil ?? until)
  if (standsUntil === null || standsUntil <= now || before.value === 'unknown' || !open[before.value]) return { value, validUntil, owes: true }
  return { value: before.value, validUntil: Math.min(standsUntil, validUntil ?? standsUntil), owes: true, standsUntil }
}
