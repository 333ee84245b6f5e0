// What older peers are kept from.
import { describe, expect, it } from 'vitest'
import { gatesFor } from '../../../domain/version/gate.ts'

describe('a version gate', () => {
  it.each([
    ['6.1.9', false, false, 2], ['6.2.0', true, false, 1], ['6.10.0', true, false, 1], ['7.0.0', true, true, 0], ['7.1.3', true, true, 0], ['10.0.0', true, true, 0], ['5.9.9', false, false, 2],
  ])('for %s opens groups %s and certificates %s, and names what is missing', (version, dynamicGroups, certificates, missing) => {
    expect(gatesFor(version)).toMatchObject({ dynamicGroups, certificates })
    expect(gatesFor(version).missing).toHaveLength(missing)
  })
  it.each(['', '7', '7.0', '7.0.0.1', '7.0.x', 'v7.0.0', '7.0.0-beta', '99999.0.0', ' 7.0.0'])('opens nothing for "%s"', (version) => {
    expect(gatesFor(version)).toMatchObject({ dynamicGroups: false, certificates: false })
  })
})
