// Which endpoint policy an endpoint gets.
import { describe, expect, it } from 'vitest'
import { profileOf, resolvePolicy } from '../../../domain/policy/resolve.ts'
import type { EndpointPolicy } from '../../../protocol/profile.ts'

const policy = (id: string, position: number, groups: string[] = [], enabled = true): EndpointPolicy => ({ id, name: id, position, groups, enabled, profileId: 'p' })
const chosen = (policies: EndpointPolicy[], group: string) => resolvePolicy(policies, { group })?.id ?? null

describe('an endpoint policy', () => {
  it('is the first by position that names the group or names none', () => {
    const policies = [policy('everybody', 9), policy('sales', 2, ['sales']), policy('staff', 5, ['sales', 'staff'])]
    expect([chosen(policies, 'sales'), chosen(policies, 'staff'), chosen(policies, 'guests')]).toEqual(['sales', 'staff', 'everybody'])
  })
  it('is passed over while it is disabled, and there may be none', () => {
    expect(chosen([policy('a', 1, [], false), policy('b', 2)], 'x')).toBe('b')
    expect([chosen([policy('a', 1, ['y'])], 'x'), chosen([], 'x')]).toEqual([null, null])
  })
  it('is the same one whatever the order of the list, at equal positions too', () => {
    const policies = [policy('b', 1), policy('a', 1), policy('c', 1)]
    expect([chosen(policies, 'x'), chosen(policies.toReversed(), 'x'), policies.map(({ id }) => id).join('')]).toEqual(['a', 'a', 'bac'])
  })
})

describe('its profile', () => {
  it('is the one for where the endpoint is; without one for off the fabric, the same', () => {
    const own = { ...policy('a', 1), profileId: 'here', offFabricProfileId: 'away' }
    expect([profileOf(own, true), profileOf(own, false), profileOf(policy('a', 1), true), profileOf(policy('a', 1), false)]).toEqual(['here', 'away', 'p', 'p'])
  })
})
