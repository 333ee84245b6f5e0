// Names of sets, transactions and listings: no tag's name becomes part of nftables' language, and what the kernel lists reads back.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { familyNames, familyOf, readSetName, setName } from '../../../gateway/firewall/element.ts'
import { readListing, writeTransaction } from '../../../gateway/firewall/kernel-sets.ts'
import { linkOf } from '../../../gateway/firewall/look.ts'
import { neededChange, tampering } from '../../../gateway/firewall/set-differences.ts'
import { filterTemplate } from '../../../gateway/firewall/template.ts'

const tags = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9 _.:-]{0,62}$/)

describe('the name of a set', () => {
  it('tells the tag and family back, and is an nftables identifier that the kernel takes', () => {
    fc.assert(fc.property(tags, fc.constantFrom(...familyNames), (tag, family) => {
      const name = setName(family, tag)
      expect(name).toMatch(/^[a-z][A-Za-z0-9_]{0,254}$/)
      expect(readSetName(name)).toEqual({ family, tag })
    }))
  })

  it('is never shared by two tags', () => {
    fc.assert(fc.property(tags, tags, (one, other) => (one === other) === (setName('ip4', one) === setName('ip4', other))))
    expect(new Set(['a b', 'a_20b', 'a-b', 'a.b', 'a:b', 'A b', 'a  b', 'a_b'].map((tag) => setName('ip4', tag))).size).toBe(8)
  })

  it('is refused for what is no tag name, and not read from what is no such set', () => {
    for (const tag of ['', 'x"; flush ruleset; "', 'a\nb', 'ä', 'x'.repeat(64)]) expect(() => setName('ip4', tag)).toThrow()
    for (const name of ['ip4_', 'ip5_a', 'ip4_a_', 'ip4_a_2', 'ip4_a_2G', 'ip4_a_41', 'ip4__20a', 'healthy']) expect(readSetName(name), name).toBeNull()
  })

  it('goes by the kind of element', () => {
    expect(['10.0.0.1', 'fd00::1', '02:00:00:00:00:01'].map(familyOf)).toEqual(['ip4', 'ip6', 'mac'])
  })
})

describe('a transaction', () => {
  it('says first what is there, then what goes and what stays until when', () => {
    const text = writeTransaction({
      create: ['ip4_a_20b', 'not-ours'], remove: ['ip4_old'], now: 1_000,
      changes: [{ set: 'ip4_a_20b', element: '10.0.0.1', until: 3_500.2 }, { set: 'ip4_a_20b', element: '10.0.0.2', until: null }],
    })
    expect(text).toBe(`add table inet sallyport
add set inet sallyport ip4_a_20b { type ipv4_addr; flags timeout; comment "a b"; }
add element inet sallyport ip4_a_20b { 10.0.0.1 timeout 1m, 10.0.0.2 timeout 1m }
delete element inet sallyport ip4_a_20b { 10.0.0.1, 10.0.0.2 }
add element inet sallyport ip4_a_20b { 10.0.0.1 timeout 2501ms }
delete set inet sallyport ip4_old
`)
  })
})

describe('a listing', () => {
  const entry = (name: string, type: unknown, elem: unknown[] = []) => ({ set: { family: 'inet', name, table: 'sallyport', type, handle: 1, flags: ['timeout'], elem } })
  it('is read as nft 1.0.6 prints it, others\' sets left out', () => {
    const listed = readListing(JSON.stringify({ nftables: [
      { metainfo: { version: '1.0.6' } }, { table: { family: 'inet', name: 'sallyport', handle: 1 } },
      entry('ip4_healthy', 'ipv4_addr', [{ elem: { val: '10.0.0.1', timeout: 120, expires: 90 } }, '10.0.0.2']), entry('mac_healthy', 'ether_addr', [{ elem: { val: '02:00:00:00:00:01', timeout: 3, expires: 2 } }]),
      entry('admins', 'ipv4_addr', ['192.0.2.1']), entry('ip6_healthy', 'ipv4_addr'), entry('ip4_used', 'ipv4_addr'),
      { rule: { expr: [{ match: { op: '==', left: { payload: { protocol: 'ip', field: 'saddr' } }, right: '@ip4_used' } }] } },
    ] }), 1_000)
    expect(listed.sets).toEqual(new Map([['ip4_healthy', new Map([['10.0.0.1', 91_000], ['10.0.0.2', Infinity]])], ['mac_healthy', new Map([['02:00:00:00:00:01', 3_000]])], ['ip4_used', new Map()]]))
    expect(listed.misshapen).toEqual(['ip6_healthy'])
    expect([...listed.used]).toEqual(['ip4_used'])
  })
})

describe('what must be written', () => {
  const now = 1_000_000
  const change = (held: number | undefined, end: number | undefined) => neededChange('s', 'e', { held, end, now })?.until
  it.each([
    ['nothing that is nowhere', undefined, undefined, undefined],
    ['nothing that has ended by itself', now - 1, undefined, undefined],
    ['what is there and should not be', now + 1_000, undefined, null],
    ['what is there and should have ended', now + 1_000, now, null],
    ['what is missing', undefined, now + 9_000, now + 9_000],
    ['what is missing, for three minutes at most', undefined, Infinity, now + 180_000],
    ['nothing while its end is near enough', now + 100_000, now + 180_000, undefined],
    ['what is half over', now + 80_000, now + 180_000, now + 180_000],
    ['what would stay too long', now + 100_000, now + 50_000, now + 50_000],
    ['what somebody made to stay for ever', Infinity, now + 50_000, now + 50_000],
  ])('%s', (_what, held, end, until) => expect(change(held, end)).toBe(until))

  it('tells what others did from what time did', () => {
    expect(tampering(new Map([['new', now + 9_000], ['longer', now + 99_000], ['same', now + 9_900]]), new Map([['gone', now + 9_000], ['over', now + 1_000], ['longer', now + 9_000], ['same', now + 10_000]]), now)).toEqual({ lost: 1, foreign: 2 })
    expect(tampering(undefined, undefined, now)).toEqual({ lost: 0, foreign: 0 })
  })
})

describe('a link', () => {
  const networks = [{ link: 'lan', cidr: '10.0.0.1/24' }, { link: 'lan', cidr: 'fd00::1/64' }, { link: 'odd name', cidr: '10.1.0.1/24' }]
  it.each([['10.0.0.9', 'lan'], ['fd00::9', 'lan'], ['10.0.1.9', null], ['10.0.0.1', null], ['10.1.0.9', null], ['fd00:1::9', null]])('to ask for %s on is %s', (address, link) => expect(linkOf(address, networks)).toBe(link))
})

describe('the template', () => {
  it('declares the sets of all tags and lets one through', () => {
    const text = filterTemplate(['finance', 'healthy'], 'a b')
    for (const set of ['ip4_a_20b', 'ip6_finance', 'mac_healthy']) expect(text).toContain(`  set ${set} { type `)
    expect(text.match(/saddr @ip/g)).toHaveLength(2)
  })
})
