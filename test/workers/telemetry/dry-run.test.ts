// What an edit of a rule set would change is told before it is made, page by page, and nothing is written.
import { beforeEach, describe, expect, it } from 'vitest'
import { admin, linux } from '../ems.ts'
import { dump } from '../dump.ts'
import { real, reEvaluated } from '../standing.ts'
import { addRuleSet, asking, clear, osAtLeast, ruleSetOf, seed, tagged, uidOf } from './fleet.ts'
import { metered, quietly, workedAt } from './stepping.ts'

const { DB } = real
const marker = asking('/etc/marker')

describe('a dry run', () => {
  beforeEach(clear)
  interface Page { items: { uid: string; tag: string; before: string; after: string; change: string }[]; examined: number; total: number | null; next: string | null }
  async function tried(ruleSet: object, replaces: string | null = null) {
    const sum = { pages: 0, examined: 0, total: null as number | null, changes: {} as Record<string, number>, items: [] as Page['items'] }
    for (let after: string | undefined; ;) {
      metered.reset()
      const { status, json } = await quietly('POST', '/rule-sets/dry-run', { ruleSet, replaces, ...(after === undefined ? {} : { after }) }, { DB: metered.database })
      if (status !== 200) throw new Error(JSON.stringify(json))
      const page = json as unknown as Page
      expect(metered.tally.rowsWritten).toBe(0)
      sum.pages++
      sum.examined += page.examined
      sum.total ??= page.total
      for (const item of page.items) sum.changes[item.change] = (sum.changes[item.change] ?? 0) + 1
      sum.items.push(...page.items)
      if (page.next === null) return sum
      after = page.next
    }
  }
  const tables = dump

  it('tells of every endpoint what would change, within the limits of each page, and writes nothing', async () => {
    await seed(0, 1_500, { os: linux('13.1') })
    await seed(1_500, 700, { os: linux('11.1') })
    await seed(2_200, 100, { os: { type: 'windows', name: 'Windows 11', version: '10.0.22631', kernel: '', architecture: 'x64' } })
    const id = await addRuleSet('modern', [osAtLeast('13')])
    await reEvaluated()
    const before = await tables()
    const fresh = await tried(ruleSetOf('old', [{ ...osAtLeast('12'), negate: true }]))
    expect(fresh).toMatchObject({ examined: 2_300, total: 2_300, changes: { gains: 700 } })
    expect(fresh.pages).toBeLessThan(6)
    expect((await tried(ruleSetOf('modern', [osAtLeast('11')]), id)).changes).toEqual({ gains: 700 })
    expect((await tried(ruleSetOf('modern', [osAtLeast('14')]), id)).changes).toEqual({ loses: 1_500 })
    expect((await tried(ruleSetOf('modern', [osAtLeast('13'), { type: 'ip-range', ranges: ['10.0.0.0/8'] }]), id)).changes).toEqual({ unknown: 1_500 })
    expect((await tried(ruleSetOf('modern', [osAtLeast('13'), marker]), id)).changes).toEqual({ owes: 1_500 })
    expect((await tried(ruleSetOf('modern', [osAtLeast('13')], { mode: 'shadow' }), id)).changes).toEqual({ loses: 1_500 })
    expect((await tried(ruleSetOf('old', [{ ...osAtLeast('12'), negate: true }], { mode: 'shadow' }))).changes).toEqual({ gains: 700 })
    // Another rule set gives the same tag still.
    expect((await tried(ruleSetOf('modern', [osAtLeast('14')], { name: 'second' }))).changes).toEqual({})
    // Another tag: the one before is lost, this one gained.
    expect((await tried(ruleSetOf('newer', [osAtLeast('13')]), id)).changes).toEqual({ gains: 1_500, loses: 1_500 })
    expect((await tried(ruleSetOf('modern', [osAtLeast('13')], { enabled: false }), id)).changes).toEqual({ loses: 1_500 })
    expect(await tables()).toEqual(before)
  })
  it('says what the edit then does', async () => {
    await seed(0, 60, { os: linux('13.1') })
    await seed(60, 40, { os: linux('12.1') })
    const id = await addRuleSet('modern', [osAtLeast('13')])
    await addRuleSet('modern', [{ ...osAtLeast('12'), comparator: '=' }], { name: 'also' })
    await reEvaluated()
    const stateOf = async () => new Map((await DB.prepare('SELECT uid, state FROM endpoint_tags').all<{ uid: string; state: string }>()).results.map(({ uid, state }) => [uid, state]))
    const before = await stateOf()
    const edit = ruleSetOf('modern', [osAtLeast('12.5')])
    const { items } = await tried(edit, id)
    await quietly('PUT', `/rule-sets/${id}`, edit)
    await workedAt(Date.now())
    const after = await stateOf()
    for (const n of Array.from({ length: 100 }).keys()) {
      const uid = uidOf(n)
      const told = items.find((each) => each.uid === uid)
      expect([told?.before ?? before.get(uid) ?? 'absent', told?.after ?? before.get(uid) ?? 'absent']).toEqual([before.get(uid) ?? 'absent', after.get(uid) ?? 'absent'])
    }
  })
  it('tells of the tags too that are made of its own', async () => {
    await seed(0, 30, { os: linux('13.1'), network: { interfaces: [{ name: 'eth0', addresses: [{ ip: '10.0.0.1', prefix: 24 }] }], defaultGateways: [], dnsServers: [] } })
    const id = await addRuleSet('modern', [osAtLeast('13')])
    await addRuleSet('trusted', [{ type: 'tag-present', tag: 'modern' }, { type: 'ip-range', ranges: ['10.0.0.0/8'] }])
    await reEvaluated()
    expect(await tagged('trusted')).toEqual({ present: 30 })
    const edit = ruleSetOf('modern', [osAtLeast('14')])
    const { items, changes } = await tried(edit, id)
    expect([changes, new Set(items.map(({ tag }) => tag))]).toEqual([{ loses: 60 }, new Set(['modern', 'trusted'])])
    await quietly('PUT', `/rule-sets/${id}`, edit)
    await workedAt(Date.now())
    expect([await tagged('modern'), await tagged('trusted')]).toEqual([{}, {}])
  })
  it('of a rule set that can not be taken, or of one that is not there, is refused', async () => {
    expect((await admin('POST', '/rule-sets/dry-run', { ruleSet: ruleSetOf('x', [{ type: 'telepathy' }]) })).json).toMatchObject({ code: 'invalid', errors: [{ pointer: '/ruleSet/rules/linux/conditions/0/type' }] })
    expect((await admin('POST', '/rule-sets/dry-run', { ruleSet: ruleSetOf('x', [osAtLeast('1')]), replaces: crypto.randomUUID() })).status).toBe(404)
    const id = await addRuleSet('modern', [osAtLeast('13')])
    await addRuleSet('trusted', [{ type: 'tag-present', tag: 'modern' }])
    const renamed = ruleSetOf('newer', [osAtLeast('13')])
    const [asTried, asSaved] = [await admin('POST', '/rule-sets/dry-run', { ruleSet: renamed, replaces: id }), await admin('PUT', `/rule-sets/${id}`, renamed)]
    expect([asTried.status, asTried.json.detail]).toEqual([409, asSaved.json.detail])
  })
})
