// Which tags an address bears: only by sight, only what every device behind it bears, and only for as long as all of it holds.
import { describe, expect, it } from 'vitest'
import { claimedAddresses, claimedMacs, deviceAddress, deviceMac } from '../../../domain/access/device-address.ts'
import type { EndpointRecord } from '../../../domain/access/endpoint-record.ts'
import { emptySnapshot, nextSnapshot, type Snapshot } from '../../../domain/access/snapshot.ts'
import { devicesBehind, sharedTagsOf, type AddressSight } from '../../../domain/access/tagged-address.ts'

const [HEALTHY, TWIN, FINANCE, ODD] = ['tag-healthy', 'tag-twin', 'tag-finance', 'tag-odd']
const NOW = 1_000_000
const STALE = 180_000
const IP = '10.0.0.7'
const MAC = '02:00:00:00:00:07'
const uidOf = (number: number) => number.toString(16).padStart(32, '0')
const serialOf = (number: number) => number.toString(16).toUpperCase().padStart(40, '0')

const laptop = (number: number, over: Partial<EndpointRecord> = {}): EndpointRecord => ({
  uid: uidOf(number), registered: true, online: true, onFabric: false, quarantined: false, hostName: 'laptop', addresses: [IP], macs: [MAC],
  certificates: [{ serial: serialOf(number), purpose: 'agent', user: '', notAfter: NOW + 50_000 }], tagsKnown: true,
  tags: new Map([[HEALTHY, { validUntil: null }]]), unknown: new Set(), unknownUntil: null, ...over,
})
const world = (...records: EndpointRecord[]): Snapshot => nextSnapshot(emptySnapshot, {
  currentAt: NOW, tagNames: new Map([[HEALTHY, 'healthy'], [TWIN, 'healthy'], [FINANCE, 'finance'], [ODD, 'not; a tag']]), endpoints: new Map(records.map((record) => [record.uid, record])),
})
const seen = (over: Partial<AddressSight> = {}): AddressSight => ({ address: IP, macs: [MAC], neighbourUntil: NOW + 60_000, connections: [], ...over })
const tags = (sight: AddressSight, records: EndpointRecord[], snapshot = world(...records), now = NOW): Record<string, number> =>
  Object.fromEntries(sharedTagsOf(devicesBehind(sight, records.filter(({ addresses }) => addresses.includes(sight.address)), snapshot, now), snapshot, STALE, now))

describe('an address', () => {
  it('bears the tags of the device whose claim is what was seen, until the sight ends', () => {
    expect(tags(seen(), [laptop(1)])).toEqual({ healthy: NOW + 60_000 })
    expect(tags(seen(), [laptop(1)], undefined, NOW + 60_000)).toEqual({})
  })

  it.each<[string, AddressSight, EndpointRecord]>([
    ['nobody was seen', seen({ macs: [], neighbourUntil: 0 }), laptop(1)],
    ['another MAC answers', seen({ macs: ['02:00:00:00:00:99'] }), laptop(1)],
    ['two MACs answer, on two links', seen({ macs: [MAC, '02:00:00:00:00:99'] }), laptop(1)],
    ['the device claims the MAC alone', seen(), laptop(1, { addresses: ['10.0.0.8'] })],
    ['the device claims the address alone', seen(), laptop(1, { macs: [] })],
    ['the device is deregistered', seen(), laptop(1, { registered: false })],
    ['the device is quarantined', seen(), laptop(1, { quarantined: true })],
    ['nothing was told of its tags', seen(), laptop(1, { tagsKnown: false })],
    ['the tag is unknown', seen(), laptop(1, { unknown: new Set([HEALTHY]) })],
    ['the tag has run out', seen(), laptop(1, { tags: new Map([[HEALTHY, { validUntil: NOW }]]) })],
  ])('bears none when %s', (_why, sight, record) => {
    expect(tags(sight, [record])).toEqual({})
  })

  it('bears none while a device that does not claim it speaks from it: it stands for others too', () => {
    const guest = laptop(2, { addresses: ['192.168.137.5'], macs: [] })
    const from = (until: number) => seen({ connections: [{ uid: guest.uid, serial: serialOf(2), until }] })
    expect([tags(from(NOW + 1), [laptop(1), guest]), tags(from(NOW), [laptop(1), guest])]).toEqual([{}, { healthy: NOW + 60_000 }])
    const stranger = seen({ connections: [{ uid: uidOf(9), serial: serialOf(9), until: NOW + 1 }] })
    expect(tags(stranger, [laptop(1)])).toEqual({})
  })

  it('bears a tag no longer than the tag itself and the snapshot last, and nothing without a snapshot', () => {
    const record = laptop(1, { tags: new Map([[HEALTHY, { validUntil: NOW + 5_000 }], [FINANCE, { validUntil: null }]]) })
    expect(tags(seen({ neighbourUntil: Infinity }), [record])).toEqual({ healthy: NOW + 5_000, finance: NOW + STALE })
    const snapshot = world(record)
    expect(tags(seen({ neighbourUntil: Infinity }), [record], snapshot, NOW + STALE)).toEqual({})
    expect(tags(seen(), [record], { ...snapshot, currentAt: null })).toEqual({})
  })

  it('bears a tag by any of the identifiers that share its name, and none whose name no tag can have', () => {
    const record = laptop(1, { tags: new Map([[HEALTHY, { validUntil: NOW + 1_000 }], [TWIN, { validUntil: NOW + 2_000 }], [ODD, { validUntil: null }], ['of-no-name', { validUntil: null }]]) })
    expect(tags(seen(), [record])).toEqual({ healthy: NOW + 2_000 })
  })

  it('that several devices claim bears only what all of them bear', () => {
    const both = [laptop(1, { tags: new Map([[HEALTHY, { validUntil: null }], [FINANCE, { validUntil: null }]]) }), laptop(2)]
    expect(tags(seen(), both)).toEqual({ healthy: NOW + 60_000 })
    expect(tags(seen(), [laptop(1), laptop(2, { quarantined: true })])).toEqual({})
  })

  it('is the device\'s that is online when another record of it was left behind', () => {
    expect(tags(seen(), [laptop(1), laptop(2, { online: false, tags: new Map() })])).toEqual({ healthy: NOW + 60_000 })
  })
})

describe('the source of a connection', () => {
  const connected = (number: number, over: Partial<AddressSight> = {}): AddressSight =>
    seen({ macs: [], neighbourUntil: 0, connections: [{ uid: uidOf(number), serial: serialOf(number), until: Infinity }], ...over })

  it('bears the tags of the device that proved itself from there, until its certificate ends', () => {
    expect(tags(connected(1), [laptop(1, { macs: [] })])).toEqual({ healthy: NOW + 50_000 })
  })

  it.each<[string, AddressSight, EndpointRecord]>([
    ['the device does not claim it: it is a NAT\'s', connected(1), laptop(1, { addresses: ['192.168.1.2'] })],
    ['its certificate was revoked', connected(1), laptop(1, { certificates: [] })],
    ['it was a browser\'s certificate', connected(1), laptop(1, { certificates: [{ serial: serialOf(1), purpose: 'browser', user: 'ann', notAfter: NOW + 50_000 }] })],
    ['its certificate has ended', connected(1), laptop(1, { certificates: [{ serial: serialOf(1), purpose: 'agent', user: '', notAfter: NOW }] })],
    ['the device is deregistered', connected(1), laptop(1, { registered: false })],
    ['the device is not known', connected(9), laptop(1)],
    ['another machine answers at the address now', connected(1, { macs: ['02:00:00:00:00:99'], neighbourUntil: NOW + 60_000 }), laptop(1)],
  ])('bears none when %s', (_why, sight, record) => {
    expect(tags(sight, [record])).toEqual({})
  })

  it('bears what all devices that speak from it bear', () => {
    const sight = connected(1, { connections: [1, 2].map((number) => ({ uid: uidOf(number), serial: serialOf(number), until: Infinity })) })
    expect(tags(sight, [laptop(1), laptop(2)])).toEqual({ healthy: NOW + 50_000 })
    expect(tags(sight, [laptop(1), laptop(2, { tags: new Map() })])).toEqual({})
  })

  it('that is a neighbour as well lasts as long as the longer sight', () => {
    expect(tags(seen({ connections: [{ uid: uidOf(1), serial: serialOf(1), until: Infinity }], neighbourUntil: NOW + 10_000 }), [laptop(1)])).toEqual({ healthy: NOW + 50_000 })
  })
})

describe('a claim', () => {
  it('counts in normal form, when one machine can have it alone', () => {
    expect(deviceAddress('::ffff:10.0.0.1')).toBe('10.0.0.1')
    expect(deviceAddress('2001:DB8:0::1')).toBeNull() // documentation
    expect(deviceAddress('FD00:0::1')).toBe('fd00::1')
    for (const text of ['127.0.0.1', '::1', '169.254.1.1', 'fe80::1', '0.0.0.0', '224.0.0.1', 'ff02::1', '10.1', '0x0a000001', 'x; flush ruleset', '']) expect(deviceAddress(text)).toBeNull()
    expect(deviceMac('02:AB:00:00:00:01')).toBe('02:ab:00:00:00:01')
    for (const text of ['00:00:00:00:00:00', 'ff:ff:ff:ff:ff:ff', '01:00:5e:00:00:01', '02:00:00:00:01', 'x']) expect(deviceMac(text)).toBeNull()
  })

  it('is bounded, without doubles', () => {
    const many = Array.from({ length: 2_000 }, (_, index) => `10.0.${index >> 8}.${index & 255}`)
    expect(claimedAddresses(['10.9.9.9', '10.9.9.9', ...many])).toHaveLength(16)
    expect(claimedMacs(['', '02:00:00:00:00:01', '02:00:00:00:00:01'])).toEqual(['02:00:00:00:00:01'])
  })
})
