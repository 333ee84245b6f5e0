// The device is on the fabric, by the EMS's own check: an address that any café can have proves nothing.
import { z } from 'zod'
import type { Sections } from '../../../protocol/facts.ts'
import { conditionType } from '../condition-type.ts'

export const onFabric = conditionType<Record<string, never>>({
  type: 'on-fabric', schema: z.strictObject({}), os: ['linux', 'windows', 'macos'], side: 'ems', section: 'fabric',
  evaluate(_, fact, { now }) {
    const { on, checkedBy, checkedAt, expiresAt } = fact.value as Sections['fabric']
    if (expiresAt !== null && expiresAt <= now) return { value: 'unknown', seen: `the last check has expired (${checkedBy})`, validUntil: null, factAt: checkedAt }
    return { value: on ? 'true' : 'false', seen: `${on ? 'on' : 'off'} the fabric (${checkedBy})`, validUntil: expiresAt, factAt: checkedAt }
  },
  wanted: () => 'on the fabric',
  mend: (_, negate) => (negate ? 'Leave the networks of the organisation.' : 'Connect to a network of the organisation.'),
})
