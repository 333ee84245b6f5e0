// What an explanation says: marks by what the logic sees of a condition, ages, and what was then beside what is now.
import { describe, expect, it } from 'vitest'
import { describeDecision, describeTag } from '../../cli/explanation-text.ts'
import { reasonTexts } from '../../cli/reasons.ts'
import { reasons, type Decision, type Reason } from '../../protocol/decisions.ts'
import type { ConditionExplanation, TagExplanation } from '../../protocol/rules.ts'

const NOW = Date.UTC(2026, 10, 24, 12)
const TAG = '00000000-0000-4000-8000-000000000009'
const condition = (changes: Partial<ConditionExplanation>): ConditionExplanation => ({
  type: 'file', negate: false, value: 'true', seen: 'exists', wanted: 'file "/x" exists', section: 'verdicts', factAt: NOW - 3 * 3_600_000, provenance: 'claimed', mend: 'Create "/x".', ...changes,
})
const tag = (changes: Partial<TagExplanation>, ...conditions: ConditionExplanation[]): TagExplanation => ({
  tagUid: TAG, tag: 'healthy', state: 'absent', validUntil: null, ruleSets: [{ id: TAG, name: 'health', value: 'false', logic: '1 and 2', message: '', conditions }], ...changes,
})
const decision = (changes: Partial<Decision>): Decision => ({
  id: 'D0123456789AB-0123456789ABCDEF', at: NOW - 60_000, gateway: 'SPGW0123456789AB', allowed: false, reason: 'tag-missing', code: '065', event: 'decide', uid: '0'.repeat(32), certificateSerial: null,
  protocol: 'tcp', service: 'ssh', destination: 'host.test:22', policy: 'healthy devices', tags: [], revision: '7.0', snapshotAgeMs: 400, source: '192.0.2.7:5000', validUntil: null, session: null, ...changes,
})

describe('a condition', () => {
  const marked = (changes: Partial<ConditionExplanation>) => describeTag(tag({}, condition(changes)), NOW)[2]?.trim().charAt(0)
  it('is marked by what the logic sees of it: its NOT counts, unknown never passes', () => {
    const values = ['true', 'false', 'unknown', 'unsupported'] as const
    expect(values.map((value) => marked({ value }))).toEqual(['✓', '✗', '?', '?'])
    expect(values.map((value) => marked({ value, negate: true }))).toEqual(['✗', '✓', '?', '?'])
  })
  it('says wanted, seen, age and provenance, and how to mend it when it does not hold', () => {
    expect(describeTag(tag({ validUntil: NOW }, condition({}), condition({ value: 'unknown', factAt: null, provenance: null, seen: 'not reported yet' })), NOW)).toEqual([
      'Tag "healthy" is absent until 2026-11-24T12:00:00Z at most, without a new report',
      '  rule set "health" is false, by 1 and 2',
      '    ✓ 1 file', '        wanted  file "/x" exists', '        seen    exists (verdicts: claimed, 3 h ago)',
      '    ? 2 file', '        wanted  file "/x" exists', '        seen    not reported yet (verdicts: nothing reported)', '        mend    Create "/x".',
    ])
  })
})

describe('an outbreak', () => {
  const outbreak = (state: TagExplanation['state'], value: 'true' | 'false') => describeTag(tag({ state, outbreak: true, ruleSets: [{ id: TAG, name: 'worm', value, logic: '1', message: 'You have a worm.', conditions: [condition({ value, mend: 'Remove "/x".' })] }] }), NOW)
  it('says how to be rid of it, and frightens nobody who has it not', () => {
    expect(outbreak('present', 'true')).toEqual(['Tag "healthy" is present', '  rule set "worm" is true: You have a worm.', '    ✓ 1 file', '        wanted  file "/x" exists', '        seen    exists (verdicts: claimed, 3 h ago)', '        mend    Remove "/x".'])
    expect(outbreak('absent', 'false')).toEqual(['Tag "healthy" is absent', '  rule set "worm" is false', '    ✗ 1 file', '        wanted  file "/x" exists', '        seen    exists (verdicts: claimed, 3 h ago)'])
  })
})

describe('a decision', () => {
  it('says what was then and what is now', () => {
    const tags = [{ uid: TAG, name: 'healthy', state: 'absent' as const }, { uid: null, name: 'gone', state: 'unknown' as const }]
    const lines = describeDecision({ decision: decision({ tags }), tags: [tag({ state: 'present' })] }, NOW)
    expect(lines[0]).toBe('Refused: host.test:22 (tcp), 2026-11-24T11:59:00Z (1 min ago)')
    expect(lines).toContain('  tag "healthy" was absent then, is present now')
    expect(lines).toContain('  tag "gone" was unknown then; no enabled rule set gives it now')
  })
  it('that cut a session names the one that had let it in; a gateway that had heard nothing is said', () => {
    const lines = describeDecision({ decision: decision({ event: 'recheck', session: 'D0123456789AB-0000000000000000', snapshotAgeMs: null }), tags: [] }, NOW).join('\n')
    expect(lines).toMatch(/^Cut: /)
    expect(lines).toMatch(/let in by +D0123456789AB-0000000000000000/)
    expect(lines).toMatch(/known then +nothing: the EMS had never been heard/)
  })
  it('says what to do with the endpoint that it is about, where that is known', () => {
    const mend = (uid: string | null) => describeDecision({ decision: decision({ reason: 'tag-unknown', code: '066', uid }), tags: [] }, NOW).find((line) => line.startsWith('  mend'))
    expect(mend('a'.repeat(32))?.endsWith(`: cli endpoints check ${'a'.repeat(32)}.`)).toBe(true)
    expect(mend(null)?.endsWith(': cli endpoints check UID.')).toBe(true)
  })
  it('says who was signed in, where an identity provider vouched for somebody', () => {
    const lines = (changes: Partial<Decision>) => describeDecision({ decision: decision(changes), tags: [] }, NOW).join('\n')
    expect(lines({ reason: 'user-mismatch', code: '061', user: { name: 'alice@corp.test', issuer: 'https://idp.test' } })).toMatch(/why +061 user-mismatch: .*\n(.*\n)*  user +alice@corp\.test, by https:\/\/idp\.test$/m)
    expect(lines({ reason: 'user-unverified', code: '066' })).not.toMatch(/^ +user /m)
  })
  it('says what a report-only policy would have decided', () => {
    const lines = describeDecision({ decision: decision({ shadow: { policy: 'stricter', allowed: false, reason: 'tag-unknown', code: '066' } }), tags: [] }, NOW).join('\n')
    expect(lines).toMatch(/report-only +the policy "stricter" would have refused it: 066 tag-unknown$/m)
  })
  it('has a meaning for every reason, and what mends it for every refusal', () => {
    for (const reason of Object.keys(reasons) as Reason[]) expect([reason, reasonTexts[reason].mend === null]).toEqual([reason, reason === 'allowed'])
  })
})
