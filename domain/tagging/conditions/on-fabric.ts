// The device is on the fabric, by the EMS's own check: an address that any café can have proves nothing.
import { z } from 'zod'
import type { Sections } from '../../../protocol/facts.ts'
import { fabricAt, HOLD_MS } from '../../policy/on-fabric.ts'
import { conditionType } from '../condition-type.ts'

const second = (at: number): string => new Date(at).toISOString().slice(0, 19).replace('T', ' ')

const schema = z.strictObject({
  /** Whoever is seen no more counts as on the fabric for so long; 60 unless said, 0: at once. */
  holdSeconds: z.number().int().min(0).max(HOLD_MS / 1000).optional(),
})
type Params = z.infer<typeof schema>

function seenOf({ on, checkedBy, checkedAt, since, heldUntil: longest }: Sections['fabric'], isOn: boolean, holdMs: number): string {
  const heldUntil = longest === undefined ? undefined : longest - HOLD_MS + holdMs
  if (!on) return `off the fabric: ${checkedBy} last saw it, and no more since ${second(checkedAt)}`
  const seen = `${checkedBy} has seen it since ${second(checkedAt)}${since === undefined || since === checkedAt ? '' : `, and it is here since ${second(since)}`}`
  if (heldUntil === undefined) return `on the fabric: ${seen}`
  return isOn ? `on the fabric until ${second(heldUntil)}: ${checkedBy} sees it no more` : `off the fabric since ${second(heldUntil)}: ${checkedBy} last saw it`
}

export const onFabric = conditionType<Params>({
  type: 'on-fabric', schema, os: ['linux', 'windows', 'macos'], side: 'ems', section: 'fabric',
  ageless: 'a sight is repeated each minute and ends by itself, five minutes after the last at most: it has no age that could be demanded',
  evaluate({ holdSeconds = HOLD_MS / 1000 }, fact, { now }) {
    const fabric = fact.value as Sections['fabric']
    const holdMs = holdSeconds * 1000
    const { on, ends } = fabricAt(fabric, now, holdMs)
    if (on === null) return { value: 'unknown', seen: `the last check has expired (${fabric.checkedBy})`, validUntil: null, factAt: fabric.checkedAt }
    return { value: on ? 'true' : 'false', seen: seenOf(fabric, on, holdMs), validUntil: ends, factAt: fabric.checkedAt }
  },
  wanted: () => 'on the fabric',
  mend: (_, negate) => (negate ? 'Leave the networks of the organisation.' : 'Connect to a network of the organisation.'),
})
