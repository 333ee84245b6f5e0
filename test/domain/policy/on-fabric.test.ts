// Which sights say that a device is on the fabric, and what a check says as time passes.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fabricAt, HOLD_MS, left, lost, placeOf, seenBy, type Fabric } from '../../../domain/policy/on-fabric.ts'
import { compileRules } from '../../../domain/tagging/compile.ts'
import { explainTag } from '../../../domain/tagging/explain.ts'
import { sections } from '../../../protocol/facts.ts'
import { fabricPlace } from '../../../protocol/fabric/place.ts'
import { now, os, ruleSet, stateOf } from '../tagging/endpoint-facts.ts'

const [one, other] = ['SPGW0000000000AA', 'SPGW0000000000BB']

describe('a sight', () => {
  const place = fabricPlace.parse({ networks: ['10.20.0.0/16', 'fd00:20::/32'] })
  it.each<['neighbour' | 'mtls' | 'vpn', string, boolean]>([
    ['neighbour', '192.0.2.7', true], ['mtls', '10.20.255.255', true], ['mtls', '::ffff:10.20.0.1', true], ['mtls', '10.21.0.1', false], ['mtls', 'fd00:20:ffff::1', true], ['mtls', 'fd00:21::1', false],
    ['vpn', '10.20.0.1', false], ['vpn', 'fd00:20::1', false],
  ])('as %s at %s says so: %s', (kind, ip, says) => {
    expect([placeOf(place)(kind, ip), placeOf(null)(kind, ip), placeOf({ ...place, neighbours: false })(kind, ip)]).toEqual([says, false, says && kind === 'mtls'])
  })
  it('from no network that is not declared, whatever the address', () => {
    fc.assert(fc.property(fc.ipV4(), (ip) => { expect(placeOf(place)('mtls', ip)).toBe(ip.startsWith('10.20.')) }))
    expect(placeOf(fabricPlace.parse({}))('mtls', '10.20.0.1')).toBe(false)
  })
})

describe('a check', () => {
  it('holds a device that is lost for a minute, knows since when it is here, and begins anew when it was away', () => {
    const came = seenBy(one, null, now)
    expect([came, fabricAt(came, now + 86_400_000)]).toEqual([{ on: true, checkedBy: one, checkedAt: now, expiresAt: null, since: now }, { on: true, ends: null }])
    const gone = lost(seenBy(other, came, now + 10), now + 20)
    expect([fabricAt(gone, now + 20), fabricAt(gone, now + 20 + HOLD_MS - 1), fabricAt(gone, now + 20 + HOLD_MS)]).toEqual([{ on: true, ends: now + 20 + HOLD_MS }, { on: true, ends: now + 20 + HOLD_MS }, { on: false, ends: null }])
    expect([seenBy(one, gone, now + 30).since, seenBy(one, gone, now + 20 + HOLD_MS).since, seenBy(one, left(one, now), now + 30).since]).toEqual([now, now + 20 + HOLD_MS, now + 30])
    expect(fabricAt({ on: true, checkedBy: 'api', checkedAt: now, expiresAt: now + 5, heldUntil: now + 9 }, now)).toEqual({ on: true, ends: now + 5 })
    for (const each of [came, gone, left(one, now)]) expect(sections.fabric.safeParse(each).success).toBe(true)
  })
  it('says through rules what it says itself, and when that ends, to each of them', () => {
    const instant = fc.integer({ min: -100_000, max: 100_000 }).map((ms) => now + ms)
    fc.assert(fc.property(fc.boolean(), fc.option(instant), fc.option(instant, { nil: undefined }), instant, (on, expiresAt, heldUntil, at) => {
      const fabric: Fabric = { on, checkedBy: one, checkedAt: now - 1000, expiresAt, ...(heldUntil === undefined ? {} : { heldUntil }) }
      const facts = { os: os(), fabric: { value: fabric, at: now - 1000, provenance: 'proved' as const } }
      const known = fabricAt(fabric, at).on
      const wanted = known === null ? 'unknown' : known ? 'present' : 'absent'
      expect(stateOf([{ type: 'on-fabric', negate: false }], facts, at)).toBe(wanted)
      expect(stateOf([{ type: 'custom', negate: false, expression: 'fabric.on' }], facts, at)).toBe(wanted)
    }))
  })
  it('is held for as long as the rule says, from not at all to a minute', () => {
    const gone = lost(seenBy(one, null, now), now)
    const facts = { os: os(), fabric: { value: gone, at: now, provenance: 'proved' as const } }
    const held = (holdSeconds: number, ms: number) => stateOf([{ type: 'on-fabric', negate: false, holdSeconds }], facts, now + ms)
    expect([held(0, 0), held(20, 0), held(20, 19_999), held(20, 20_000), held(60, 59_999), held(60, 60_000)]).toEqual(['absent', 'present', 'present', 'absent', 'present', 'absent'])
    expect([fabricAt(gone, now, 20_000), fabricAt(gone, now, 0), fabricAt(seenBy(one, null, now), now, 0)]).toEqual([{ on: true, ends: now + 20_000 }, { on: false, ends: null }, { on: true, ends: null }])
  })
  it('is explained by the gateway and the time', () => {
    const rules = compileRules([ruleSet(1, { conditions: [{ type: 'on-fabric', negate: false }] })], 1)
    const seenOf = (value: Fabric, at: number) => explainTag({ tagUid: [...rules.byTag.keys()][0] ?? '', rules, facts: { os: os(), fabric: { value, at, provenance: 'proved' } }, now: at })?.ruleSets[0]?.conditions[0]?.seen
    const came = seenBy(one, null, now)
    const minute = new Date(now).toISOString().slice(0, 16).replace('T', ' ')
    expect(seenOf(came, now)).toContain(`on the fabric: ${one} has seen it since ${minute}`)
    expect([seenOf(seenBy(other, came, now + 5_000), now + 5_000), seenOf(lost(came, now), now), seenOf(lost(came, now), now + HOLD_MS), seenOf(left(one, now), now)]).toEqual([
      expect.stringMatching(new RegExp(`^on the fabric: ${other} has seen it since .*, and it is here since `)), expect.stringMatching(`^on the fabric until .*: ${one} sees it no more$`),
      expect.stringMatching(`^off the fabric since .*: ${one} last saw it$`), expect.stringMatching(`^off the fabric: ${one} last saw it, and no more since `),
    ])
  })
})
