// The key of an agent-side condition: the hash of its meaning. Another meaning is another key, so an old answer never answers a new question.
import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js'
import canonicalize from 'canonicalize'
import type { Condition } from '../../protocol/rules.ts'

/** `ck_` and 32 hex digits. Negation is worked out by the EMS and is no part of it: both forms share one answer. */
export function conditionKey(condition: Condition): string {
  const { negate: _, ...meaning } = condition
  return `ck_${bytesToHex(sha256(utf8ToBytes(canonicalize(meaning) ?? ''))).slice(0, 32)}`
}
