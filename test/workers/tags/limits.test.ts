// What all rule sets together may come to: agents are asked all of it or the last one is refused, there are never more than an isolate holds, and two edits at once close no circle.
import { beforeEach, describe, expect, it } from 'vitest'
import { MOST_RULE_SETS } from '../../../workers/flows/limit-rule-sets.ts'
import { admin, sendTo, TOKEN } from '../ems.ts'
import { envWith, interposed, real } from '../standing.ts'
import { addRuleSet, clear, osAtLeast, ruleSetOf } from '../telemetry/fleet.ts'

const { DB } = real
const files = (from: number, count: number) => Array.from({ length: count }, (_, n) => ({ type: 'file', path: `/etc/${from + n}` }))
/** Rule sets that are there already, without their cost. */
const stored = async (count: number, conditionsOf: (n: number) => object[]) => {
  const rows = JSON.stringify(Array.from({ length: count }, (_, n) => ({ id: crypto.randomUUID(), body: JSON.stringify(ruleSetOf(`stored ${n}`, conditionsOf(n))) })))
  await DB.prepare('INSERT INTO rule_sets (id, tag_uid, body, updated_at) SELECT value ->> \'id\', ?, value ->> \'body\', 1 FROM json_each(?)').bind(crypto.randomUUID(), rows).run()
}
const errorsOf = ({ status, json }: Awaited<ReturnType<typeof admin>>) => ({ status, errors: json.errors })

describe('all rule sets together', () => {
  beforeEach(clear)

  it('ask agents no more than they take: one more is refused with its place, saved, tried or in a pack', async () => {
    await stored(31, (n) => files(n * 32, 32))
    const id = await addRuleSet('fits', files(5_000, 8))
    const beyond = ruleSetOf('beyond', [osAtLeast('1'), ...files(6_000, 1)])
    const refused = (pointer: string) => ({ status: 422, errors: [{ pointer, detail: 'agents on linux would be asked 1001 different things by all rule sets together; they take 1000' }] })
    expect(errorsOf(await admin('POST', '/rule-sets', beyond))).toEqual(refused('/rules/linux/conditions'))
    expect(errorsOf(await admin('POST', '/rule-sets/dry-run', { ruleSet: beyond }))).toEqual(refused('/ruleSet/rules/linux/conditions'))
    const pack = { name: 'p', version: '1', issuedAt: '2026-11-20', tags: [{ name: 'beyond' }], ruleSets: [beyond] }
    expect(errorsOf(await admin('POST', '/packs', pack))).toEqual(refused('/ruleSets/0/rules/linux/conditions'))
    // In place of what it replaces; what is asked already; switched off; and what asks agents nothing.
    expect((await admin('PUT', `/rule-sets/${id}`, ruleSetOf('fits', files(7_000, 8)))).status).toBe(200)
    for (const taken of [ruleSetOf('same', files(0, 32)), ruleSetOf('off', files(8_000, 9), { enabled: false }), ruleSetOf('asks nobody', [osAtLeast('1')])]) expect((await admin('POST', '/rule-sets', taken)).status).toBe(200)
  })
  it('are no more than so many', async () => {
    await stored(MOST_RULE_SETS - 1, () => [osAtLeast('1')])
    const id = await addRuleSet('last', [osAtLeast('2')])
    const refused = { status: 422, errors: [{ pointer: '', detail: 'there would be more than 2000 rule sets' }] }
    for (const conditions of [[osAtLeast('3')], files(0, 1)]) expect(errorsOf(await admin('POST', '/rule-sets', ruleSetOf('one more', conditions)))).toEqual(refused)
    expect((await admin('PUT', `/rule-sets/${id}`, ruleSetOf('last', files(0, 1)))).status).toBe(200)
    expect(errorsOf(await admin('POST', '/packs', { name: 'p', version: '1', issuedAt: '2026-11-20', tags: [{ name: 'x' }], ruleSets: [ruleSetOf('x', [osAtLeast('1')])] }))).toEqual(refused)
  })
  it.each(['edited', 'new'])('close no circle of tags by two edits at once, of which neither closes it alone (%s)', async (which) => {
    const reading = (tag: string, read: string) => ruleSetOf(tag, [{ type: 'tag-present', tag: read }])
    const [one, two] = [await addRuleSet('one', [osAtLeast('1')]), await addRuleSet('two', [osAtLeast('1')])]
    const mine = { ...reading('two', 'one'), ...(which === 'new' ? { name: 'another giver' } : {}) }
    let first = true
    const bindings = envWith({
      DB: interposed(DB, {
        async before(sql) {
          // The other edit comes after this one was found good, and before it is written.
          if (!first || !sql.some((each) => each.startsWith(which === 'new' ? 'insert into "rule_sets"' : 'update "rule_sets"'))) return
          first = false
          expect((await admin('PUT', `/rule-sets/${one}`, reading('one', 'two'))).status).toBe(200)
        },
      }),
    })
    const { status, json } = await sendTo(bindings, which === 'new' ? 'POST' : 'PUT', `/api/v1/admin/rule-sets${which === 'new' ? '' : `/${two}`}`, { body: mine, headers: { authorization: `Bearer ${TOKEN}` } })
    expect([status, first, json.errors]).toEqual([422, false, [{ pointer: '/rules/linux/conditions/0/tag', detail: 'closes a circle of tags: "two" reads "one" reads "two"' }]])
    expect((await admin('GET', '/rule-sets')).json.items).toHaveLength(2)
  })
})
