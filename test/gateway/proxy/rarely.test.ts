import { expect, it } from 'vitest'
import { createRarely } from '../../../gateway/proxy/rarely.ts'
import { silentLog } from '../../../node/logging.ts'

it('a log that strangers write to takes five lines a second of each event, and tells how many it left out', () => {
  let now = 1_000
  const lines: unknown[] = []
  const rarely = createRarely(Object.assign(silentLog(), { warn: (fields: unknown) => lines.push(fields) }), () => now)
  for (let round = 0; round < 100; round++) rarely('tls_refused', { round }, 'A handshake failed')
  rarely('other', {}, 'Something else')
  now += 1_000
  rarely('tls_refused', {}, 'A handshake failed')
  expect(lines).toHaveLength(7)
  expect(lines.at(-1)).toEqual({ event: 'tls_refused', leftOut: 95 })
})
