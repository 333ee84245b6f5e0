// What agents are asked, and how they answer.
import { describe, expect, it } from 'vitest'
import { agentRulesFor, answerConditions, questionsOf, tooMuchAsked, watchTargets } from '../../../domain/tagging/agent-rules.ts'
import { conditionKey } from '../../../domain/tagging/condition-key.ts'
import type { Device } from '../../../domain/tagging/device.ts'
import { sections } from '../../../protocol/facts.ts'
import { agentRules } from '../../../protocol/rules.ts'
import { atLeast, marker, negated, now, ruleSet, sshd } from './endpoint-facts.ts'

const rules = agentRulesFor('linux', [ruleSet(1, { conditions: [marker, negated(sshd), atLeast('12')] }), ruleSet(2, { conditions: [negated(marker)] })], 7)
const device = (more: Partial<Device> = {}): Device => ({ fileFacts: () => Promise.resolve({ exists: false }), processes: () => Promise.resolve([{ name: 'sshd', path: '/usr/sbin/sshd' }]), ...more })

describe('the rules that agents get', () => {
  it('hold each question for the device once, without its NOT, in an order that stands', () => {
    expect(rules.conditions).toEqual([marker, sshd].map((condition) => ({ key: conditionKey(condition), condition })).sort((a, b) => (a.key < b.key ? -1 : 1)))
  })
  it('hold none of another system and none of a disabled rule set', () => {
    expect(agentRulesFor('windows', [ruleSet(1, { conditions: [marker] })], 1).conditions).toEqual([])
    expect(agentRulesFor('linux', [ruleSet(1, { conditions: [marker] }, { enabled: false })], 1).conditions).toEqual([])
  })
  it('stay a document that agents take, however many questions there are', () => {
    const many = Array.from({ length: 40 }, (_, n) => ruleSet(n, { conditions: Array.from({ length: 32 }, (__, m) => ({ ...marker, path: `/etc/${n}-${m}` })) }))
    expect(agentRules.safeParse(agentRulesFor('linux', many, 1)).success).toBe(true)
  })
  it('stay a document that agents take, however long the questions are', () => {
    const long = Array.from({ length: 32 }, (_, n) => ruleSet(n, { conditions: Array.from({ length: 32 }, (__, m) => ({ ...marker, path: `/${n}-${m}/${'é'.repeat(1000)}` })) }))
    const asked = agentRulesFor('linux', long, 1)
    expect(asked.conditions.length).toBeGreaterThan(50)
    expect(Buffer.byteLength(JSON.stringify(asked)) * 4 / 3).toBeLessThan(512 * 1024)
  })
  it('that would be more, or longer, than agents take are told so for each system', () => {
    const asking = (count: number, path = '/etc/x') => Array.from({ length: Math.ceil(count / 25) }, (_, n) => ruleSet(n, { conditions: Array.from({ length: 25 }, (__, m) => ({ ...marker, path: `${path}${n}-${m}` })) }))
    expect([tooMuchAsked('linux', asking(1_000)), tooMuchAsked('linux', [...asking(1_000), ...asking(1_000)]), tooMuchAsked('windows', asking(1_025))]).toEqual([null, null, null])
    expect(tooMuchAsked('linux', asking(1_025))).toBe('agents on linux would be asked 1025 different things by all rule sets together; they take 1000')
    expect(tooMuchAsked('linux', asking(500, `/${'é'.repeat(400)}`))).toMatch(/^what agents on linux would be asked by all rule sets together has \d+ bytes; they take 262144$/)
    expect(tooMuchAsked('linux', asking(1_025).map((each) => ({ ...each, enabled: false })))).toBeNull()
    // What is let through is asked, all of it.
    expect(agentRulesFor('linux', asking(1_000), 1).conditions).toHaveLength(1_000)
  })
  it('are the same questions whatever else of a rule set is edited', () => {
    const asks = ruleSet(1, { conditions: [marker, atLeast('12')] })
    expect(questionsOf({ ...asks, name: 'other', message: 'other', rules: { linux: { conditions: [negated(marker), atLeast('13')], logic: '1 or 2' } } })).toBe(questionsOf(asks))
    for (const other of [null, { ...asks, enabled: false }, ruleSet(1, { conditions: [sshd] }), { ...asks, rules: { windows: { conditions: [marker] } } }]) expect(questionsOf(other)).not.toBe(questionsOf(asks))
    expect(questionsOf(ruleSet(1, { conditions: [atLeast('12')] }))).toBe(questionsOf(null))
  })
  it('say what to watch', () => { expect(watchTargets(rules)).toEqual({ files: ['/etc/marker'], processes: ['sshd'] }) })
})

describe('the key of a condition', () => {
  it('is of its meaning: neither negation nor the order of members changes it, anything else does', () => {
    expect(conditionKey(marker)).toMatch(/^ck_[0-9a-f]{32}$/)
    expect(conditionKey(negated(marker))).toBe(conditionKey(marker))
    expect(conditionKey({ path: '/etc/marker', negate: false, type: 'file' })).toBe(conditionKey(marker))
    const others = [{ ...marker, path: '/etc/Marker' }, { ...marker, exists: false }, { ...marker, sha256: 'a'.repeat(64) }, { ...sshd, name: '/etc/marker' }]
    expect(new Set([marker, ...others].map(conditionKey)).size).toBe(5)
  })
})

describe('the agent’s answers', () => {
  const byType = async (given: Device) => {
    const { answers } = await answerConditions(rules, given, {}, now)
    return { file: answers[conditionKey(marker)], process: answers[conditionKey(sshd)] }
  }
  it('say what was seen; the time of an answer moves only with the answer', async () => {
    const first = await answerConditions(rules, device(), {}, now)
    expect(await byType(device())).toEqual({ file: { value: 'false', seen: 'does not exist', at: now }, process: { value: 'true', seen: 'running', at: now } })
    expect(await answerConditions(rules, device(), first.answers, now + 5)).toEqual(first)
    const stopped = await answerConditions(rules, device({ processes: () => Promise.resolve([]) }), first.answers, now + 5)
    expect([stopped.answers[conditionKey(marker)]?.at, stopped.answers[conditionKey(sshd)]?.at]).toEqual([now, now + 5])
  })
  it('take back what can not be looked at any more, and keep the others', async () => {
    expect(await byType(device({ processes: () => Promise.reject(new Error('too many open files')) }))).toEqual({
      file: { value: 'false', seen: 'does not exist', at: now }, process: { value: 'unknown', seen: 'can not be looked at: too many open files', at: now },
    })
  })
  it('are unknown for a type that this agent does not know or can not read', async () => {
    const later = { revision: 1, conditions: [{ key: `ck_${'0'.repeat(32)}`, condition: { type: 'registry-key', negate: false } }, { key: `ck_${'1'.repeat(32)}`, condition: { ...marker, newer: true } }] }
    expect(Object.values((await answerConditions(later, device(), {}, now)).answers).map(({ value }) => value)).toEqual(['unknown', 'unknown'])
  })
  it('can be reported whatever a program is called: a path of control characters stops nobody’s report', async () => {
    const asked = agentRulesFor('linux', [ruleSet(1, { conditions: [{ ...sshd, path: '/usr/sbin/sshd' }, marker] })], 1)
    for (const path of ['/tmp/\n\u202e\u0000sshd', '/tmp/\ud800', `/tmp/${'\u{1f600}'.repeat(400)}`]) {
      const answered = await answerConditions(asked, device({ processes: () => Promise.resolve([{ name: 'sshd', path }]) }), {}, now)
      expect(sections.verdicts.safeParse(answered).success).toBe(true)
      expect(Object.values(answered.answers).every(({ seen }) => seen.isWellFormed())).toBe(true)
    }
  })
  it('come from one look at the processes, however many ask', async () => {
    let looks = 0
    const asked = agentRulesFor('linux', [ruleSet(1, { conditions: [sshd, { ...sshd, name: 'cron' }, { ...sshd, name: 'dockerd' }] })], 1)
    await answerConditions(asked, device({ processes: () => { looks++; return Promise.resolve([]) } }), {}, now)
    expect(looks).toBe(1)
  })
})
