// Tagging: one report and one match without an EMS, what a laptop takes in the database, and an edit of one rule set over a fleet.
import { alone, type Figure, type Progress } from './figures.ts'
import { benchTaggingFleet } from './tagging-fleet.ts'
import { benchLaptop } from './tagging-laptop.ts'
import { makeRecords, PACKAGES, timeMatches } from './vulnerabilities.ts'

const BENCH = 'tagging'

/** Runs it. @param sizes endpoints of the fleet that is edited, and its rule sets; laptops whose storage is measured; advisories that one laptop's packages are matched against */
export async function benchTagging({ advisories, ...fleet }: { readonly endpoints: number; readonly ruleSets: number; readonly laptops: number; readonly advisories: number }, progress: Progress): Promise<Figure[]> {
  const laptop = await benchLaptop(progress)
  progress(`${BENCH}: ${PACKAGES} packages against ${advisories} advisories`)
  const match = timeMatches(makeRecords(advisories))
  return [
    ...laptop,
    alone(BENCH, 'match-advisories', 'advisories', match.advisories), alone(BENCH, 'match-found', 'matches', match.found),
    alone(BENCH, 'match-warm-p50', 'ms', match.warm, 20), alone(BENCH, 'match-cold-p50', 'ms', match.cold, 20),
    alone(BENCH, 'match-second-which-sorts-p50', 'ms', match.second), alone(BENCH, 'match-index-p50', 'ms', match.index),
    ...await benchTaggingFleet(fleet, progress),
  ]
}
