// Rule packs: imported, replaced by a newer version, refused when older, removed with all that they gave; whole or not at all.
import { beforeEach, describe, expect, it } from 'vitest'
import { admin, enrolled, linux, report, sendTo, TOKEN, type Endpoint } from '../ems.ts'
import { meter } from '../meter.ts'
import { envWith, interposed, real, reEvaluated } from '../standing.ts'

const { DB } = real
const at = (version: string) => ({ linux: { conditions: [{ type: 'os-version', comparator: '>=', version }] } })
const pack = (changes: object = {}) => ({
  name: 'backdoor', version: '1.0', issuedAt: '2026-11-20', description: 'd', tags: [{ name: 'affected', description: 'has it' }],
  ruleSets: [{ name: 'old system', tag: 'affected', rules: at('12') }, { name: 'older system', tag: 'affected', rules: at('99') }], ...changes,
})
const take = (body: object) => admin('POST', '/packs', body)
const tagsNow = async () => ((await admin('GET', '/tags')).json.items as { name: string; type: number; description: string }[]).map(({ name, type, description }) => ({ name, type, description }))
const ruleSetsNow = async () => ((await admin('GET', '/rule-sets')).json.items as { id: string; name: string; packId?: string }[])
const namesOf = async ({ uid }: Endpoint) => {
  const all = (await admin('GET', '/tags')).json.items as { uid: string; name: string }[]
  return ((await admin('GET', `/endpoints/${uid}`)).json.tags as { tagUid: string }[]).map(({ tagUid }) => all.find((tag) => tag.uid === tagUid)?.name)
}
const revision = async () => (await admin('GET', '/re-evaluation')).json.revision as number
interface Ids { readonly own: string; readonly packId: string }
const asAdministrator = { authorization: `Bearer ${TOKEN}` }

describe('a rule pack', () => {
  let laptop: Endpoint
  beforeEach(async () => {
    await DB.batch(['rule_sets', 'rule_changes', 'packs', 'tags', 'endpoint_tags', 'endpoints'].map((table) => DB.prepare(`DELETE FROM ${table}`)))
    laptop = await enrolled()
    await report(laptop, 1, { os: linux('12.8') })
  })

  it('gives its tags, of type outbreak, to endpoints as they are', async () => {
    const { json } = await take(pack())
    expect(json).toMatchObject({ action: 'imported', pack: { name: 'backdoor', version: '1.0', ruleSets: 2, tags: ['affected'] } })
    expect(await tagsNow()).toEqual([{ name: 'affected', type: 2, description: 'has it' }])
    await reEvaluated()
    expect(await namesOf(laptop)).toEqual(['affected'])
    expect((await admin('GET', '/packs')).json.items).toMatchObject([{ name: 'backdoor', ruleSets: 2, tags: ['affected'] }])
  })

  it('imported again changes nothing; with other contents it needs a newer version; an older one is refused', async () => {
    await take(pack())
    const before = await revision()
    expect((await take(pack({ issuedAt: '2026-11-20T00:00:00Z' }))).json.action).toBe('unchanged')
    expect(await revision()).toBe(before)
    expect(await take(pack({ description: 'other' }))).toMatchObject({ code: 'conflict', json: { detail: expect.stringContaining('newer version') as string } })
    expect(await take(pack({ version: '0.9' }))).toMatchObject({ code: 'conflict', json: { detail: expect.stringContaining('0.9 is older') as string } })
    expect((await take(pack({ version: '1.0.0.1' }))).json.action).toBe('replaced')
    // Only the version is another: nothing is evaluated for that.
    expect(await revision()).toBe(before)
  })

  it('of a newer version replaces its rule sets by name, and only what changed in meaning is evaluated', async () => {
    const own = await admin('POST', '/rule-sets', { name: 'own', tag: 'mine', rules: at('1') })
    await take(pack())
    await reEvaluated()
    const [before, ids] = [await revision(), new Map((await ruleSetsNow()).map(({ name, id }) => [name, id]))]
    const { json } = await take(pack({ version: '1.10', tags: [{ name: 'affected' }, { name: 'patched', type: 'zero-trust' }], ruleSets: [{ name: 'old system', tag: 'affected', rules: at('12'), message: 'said otherwise' }, { name: 'new system', tag: 'patched', rules: at('11') }] }))
    expect(json).toMatchObject({ action: 'replaced', pack: { version: '1.10', tags: ['affected', 'patched'] } })
    const after = new Map((await ruleSetsNow()).map(({ name, id }) => [name, id]))
    expect([[...after.keys()].sort(), after.get('old system'), after.get('own')]).toEqual([['new system', 'old system', 'own'], ids.get('old system'), own.json.id])
    // One new, one gone; the one that only says something else decides nothing otherwise.
    expect(await revision()).toBe(before + 2)
    await reEvaluated()
    expect((await namesOf(laptop)).sort()).toEqual(['affected', 'mine', 'patched'])
    const { results } = await DB.prepare('SELECT revision FROM rule_changes WHERE revision > ? ORDER BY revision').bind(before).all<{ revision: number }>()
    expect([[], [before + 1, before + 2]]).toContainEqual(results.map((row) => row.revision))
  })

  it('that is removed takes what it gave with it, and nothing else', async () => {
    const { json } = await take(pack())
    await admin('POST', '/rule-sets', { name: 'own', tag: 'mine', rules: at('1') })
    await reEvaluated()
    const { id } = json.pack as { id: string }
    expect((await admin('DELETE', `/packs/${id}`)).status).toBe(200)
    await reEvaluated()
    expect([await namesOf(laptop), (await tagsNow()).map(({ name }) => name), (await ruleSetsNow()).map(({ name }) => name), (await admin('GET', '/packs')).json.items]).toEqual([['mine'], ['mine'], ['own'], []])
    expect((await admin('DELETE', `/packs/${id}`)).code).toBe('not_found')
  })

  it('has rule sets that nobody changes by hand', async () => {
    await take(pack())
    const [one] = await ruleSetsNow()
    expect(one?.packId).toEqual(expect.any(String))
    expect((await admin('PUT', `/rule-sets/${one?.id}`, { name: 'n', tag: 'affected', rules: at('1') })).code).toBe('conflict')
    expect((await admin('DELETE', `/rule-sets/${one?.id}`)).code).toBe('conflict')
  })

  it('comes back as it was imported', async () => {
    const { json } = await take(pack())
    const { pack: stored } = (await admin('GET', `/packs/${(json.pack as { id: string }).id}`)).json
    expect(stored).toMatchObject({ name: 'backdoor', version: '1.0', issuedAt: '2026-11-20T00:00:00.000Z', tags: [{ name: 'affected', type: 'outbreak', description: 'has it' }], ruleSets: [{ name: 'old system' }, { name: 'older system' }] })
    expect((await take(stored as object)).json.action).toBe('unchanged')
  })

  it.each([
    ['/ruleSets/1/rules/linux/conditions/0/type', { ruleSets: [{ name: 'a', tag: 'affected', rules: at('1') }, { name: 'b', tag: 'affected', rules: { linux: { conditions: [{ type: 'telepathy' }] } } }] }],
    ['/ruleSets/0/tag', { ruleSets: [{ name: 'a', tag: 'other', rules: at('1') }, { name: 'b', tag: 'affected', rules: at('1') }] }],
    ['/tags/1/name', { tags: [{ name: 'affected' }, { name: 'nobody gives it' }] }],
    ['/ruleSets/1/name', { ruleSets: [{ name: 'a', tag: 'affected', rules: at('1') }, { name: 'a', tag: 'affected', rules: at('2') }] }],
    ['/version', { version: 'v1' }], ['/issuedAt', { issuedAt: 'yesterday' }], ['/tags/0/type', { tags: [{ name: 'affected', type: 'fabric' }] }],
  ])('with a mistake is refused, which says %s, and stores nothing', async (pointer, changes) => {
    const { status, json } = await take(pack(changes))
    expect([status, (json.errors as { pointer: string }[]).map((error) => error.pointer)]).toEqual([422, expect.arrayContaining([pointer])])
    expect([await ruleSetsNow(), await tagsNow(), (await admin('GET', '/packs')).json.items]).toEqual([[], [], []])
  })

  it('takes no tag of another type', async () => {
    await admin('POST', '/rule-sets', { name: 'own', tag: 'affected', rules: at('1') })
    expect((await take(pack())).json).toMatchObject({ code: 'invalid', errors: [{ pointer: '/tags/0/name', detail: '"affected" is of type zero-trust here' }] })
  })

  it('may read tags, its own too, but none in a circle, and leaves nobody reading what it gave', async () => {
    const reads = (tag: string) => ({ linux: { conditions: [{ type: 'tag-present', tag }] } })
    const two = (second: object) => pack({ tags: [{ name: 'affected' }, { name: 'quarantined' }], ruleSets: [{ name: 'old system', tag: 'affected', rules: at('12') }, second] })
    expect((await take(two({ name: 'second', tag: 'quarantined', rules: reads('nobody') }))).json).toMatchObject({ code: 'invalid', errors: [{ pointer: '/ruleSets/1/rules/linux/conditions/0/tag' }] })
    const circle = pack({ tags: [{ name: 'a' }, { name: 'b' }], ruleSets: [{ name: 'a', tag: 'a', rules: reads('b') }, { name: 'b', tag: 'b', rules: reads('a') }] })
    expect((await take(circle)).json).toMatchObject({ code: 'invalid', errors: [{ pointer: '/ruleSets/0/rules/linux/conditions/0/tag' }, { pointer: '/ruleSets/1/rules/linux/conditions/0/tag' }] })
    const { json } = await take(two({ name: 'second', tag: 'quarantined', rules: reads('affected') }))
    expect(json.action).toBe('imported')
    await reEvaluated()
    expect((await namesOf(laptop)).sort()).toEqual(['affected', 'quarantined'])
    const own = await admin('POST', '/rule-sets', { name: 'own', tag: 'mine', rules: reads('quarantined') })
    const { id } = json.pack as { id: string }
    expect((await admin('DELETE', `/packs/${id}`)).json).toMatchObject({ code: 'conflict', detail: expect.stringContaining('"own" reads the tag "quarantined"') as string })
    expect((await take(pack({ version: '2' }))).code).toBe('conflict')
    await admin('DELETE', `/rule-sets/${String(own.json.id)}`)
    expect((await admin('DELETE', `/packs/${id}`)).status).toBe(200)
  })

  const reading = (tag: string) => ({ linux: { conditions: [{ type: 'tag-present', tag }] } })
  it.each([
    ['an import that reads a tag', 'insert into "packs"', 'POST', () => '/packs', pack({ ruleSets: [{ name: 'reader', tag: 'affected', rules: reading('mine') }] }), async ({ own }: Ids) => admin('DELETE', `/rule-sets/${own}`)],
    ['a removal that takes a tag', 'update "packs"', 'DELETE', ({ packId }: Ids) => `/packs/${packId}`, undefined, async () => admin('POST', '/rule-sets', { name: 'reader', tag: 'late', rules: reading('affected') })],
    ['a rule set that is deleted', 'delete from "rule_sets"', 'DELETE', ({ own }: Ids) => `/rule-sets/${own}`, undefined, async () => admin('POST', '/rule-sets', { name: 'reader', tag: 'late', rules: reading('mine') })],
    ['a rule set that gives another tag', 'update "rule_sets"', 'PUT', ({ own }: Ids) => `/rule-sets/${own}`, { name: 'own', tag: 'elsewhere', rules: at('1') }, async () => admin('POST', '/rule-sets', { name: 'reader', tag: 'late', rules: reading('mine') })],
  ])('or %s, with an edit of rules between its look and its write, leaves nobody reading what nobody gives', async (_what, statement, method, path, body, meanwhile) => {
    const own = String((await admin('POST', '/rule-sets', { name: 'own', tag: 'mine', rules: at('1') })).json.id)
    const packId = method === 'DELETE' ? ((await take(pack())).json.pack as { id: string }).id : ''
    let first = true
    const bindings = envWith({
      DB: interposed(DB, {
        async before(sql) {
          if (!first || !sql.some((each) => each.startsWith(statement))) return
          first = false
          expect((await meanwhile({ own, packId })).status).toBe(200)
        },
      }),
    })
    const { status } = await sendTo(bindings, method, `/api/v1/admin${path({ own, packId })}`, { headers: asAdministrator, ...(body === undefined ? {} : { body }) })
    expect([first, status]).toEqual([false, method === 'POST' ? 422 : 409])
    const sets = (await admin('GET', '/rule-sets')).json.items as { tag: string; rules: { linux: { conditions: { tag?: string }[] } } }[]
    expect(sets.flatMap(({ rules }) => rules.linux.conditions.flatMap(({ tag }) => tag ?? [])).filter((tag) => !sets.some((each) => each.tag === tag))).toEqual([])
  })

  it('imported by two at once is one of them, whole', async () => {
    await take(pack())
    let first = true
    const bindings = envWith({
      DB: interposed(DB, {
        async before(sql) {
          if (!first || !sql.some((each) => each.startsWith('update "packs"'))) return
          first = false
          await take(pack({ version: '3.0', ruleSets: [{ name: 'third', tag: 'affected', rules: at('3') }] }))
        },
      }),
    })
    const { code } = await sendTo(bindings, 'POST', '/api/v1/admin/packs', { body: pack({ version: '2.0', ruleSets: [{ name: 'second', tag: 'affected', rules: at('2') }] }), headers: asAdministrator })
    expect([code, first, (await ruleSetsNow()).map(({ name }) => name)]).toEqual(['conflict', false, ['third']])
  })

  it('of 64 rule sets costs 8 trips at most, whatever their number', async () => {
    const { database, tally, reset } = meter(DB)
    const ruleSets = Array.from({ length: 64 }, (_, n) => ({ name: `r${n}`, tag: 'affected', rules: at(String(n + 1)) }))
    reset()
    expect((await sendTo(envWith({ DB: database }), 'POST', '/api/v1/admin/packs', { body: pack({ ruleSets }), headers: asAdministrator })).json).toMatchObject({ action: 'imported', pack: { ruleSets: 64 } })
    expect(tally.trips).toBeLessThanOrEqual(8)
    await reEvaluated()
    expect(await namesOf(laptop)).toEqual(['affected'])
  })
})
