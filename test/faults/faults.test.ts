// Each fault once, at its smallest: no tag is lost, none is a phantom, all is true again in time, and no session outlives its contract. The matrix at any size: `npm run test:faults`.
import { describe, it } from 'vitest'
import { faults } from './kinds.ts'
import { play, seeded } from './play.ts'
import { startWorld } from './world.ts'

const FLIPS = 25
/** Written into what fails, so that it can be repeated. */
const seed = 20_261_125

// Side by side: most of the time is spent waiting for what a fault delays.
describe.concurrent.each(faults)('the fabric under the fault $name', (fault) => {
  it(`ends with every gateway doing what is true, after ${FLIPS} changes`, async ({ expect }) => {
    const defects: unknown[] = []
    const random = seeded(seed)
    const world = await startWorld({ laptops: 6, random, onDefect: (cause) => defects.push(cause) })
    try {
      const { violations, flips } = await play({ world, fault, flips: FLIPS, random, patience: 8 })
      expect({ violations, flips, defects, seed }).toEqual({ violations: [], flips: FLIPS, defects: [], seed })
    } finally {
      await world.close()
    }
  }, 900_000)
})
