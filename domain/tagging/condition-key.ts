// The key of an agent-side condition: the hash of its meaning. Another meaning is another key, so an old answer never answers a new question.
import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js'
import canonicalize from 'canonicalize'
import type { Condition } from '../../protocol/rules.ts'

/** What an agent is asked: without what the EMS works out by itself (the NOT, how the fact must be known, how old it may be). */
export function questionOf(condition: Condition): Condition {
  const { negate: _, proved: __, notOlderThanSeconds: ___, ...meaning } = condition
  return { ...meaning, negate: false }
}

/** `ck_` and 32 hex digits. Conditions that ask the same share one answer. */
export function conditionKey(condition: Condition): string {
  const { negate: _, ...meaning } = questionOf(condition)
  return `ck_${bytesToHex(sha256(utf8ToBytes(canonicalize(meaning) ?? ''))).slice(0, 32)}`
}
