// What another system scores the device, as it told the EMS. A score that has expired, or a source that said nothing, is unknown.
import { z } from 'zod'
import { signalSource } from '../../../protocol/facts.ts'
import { conditionType } from '../condition-type.ts'
import { scoreOf } from '../signals.ts'

const comparators = { '=': 'is', '>=': 'is at least', '>': 'is above', '<=': 'is at most', '<': 'is below' } as const
type Comparator = keyof typeof comparators
const schema = z.strictObject({ source: signalSource, comparator: z.enum(Object.keys(comparators) as [Comparator]), score: z.number().min(-1_000_000).max(1_000_000) })

const holds = (score: number, comparator: Comparator, wanted: number): boolean => {
  switch (comparator) {
    case '=': return score === wanted
    case '>=': return score >= wanted
    case '>': return score > wanted
    case '<=': return score <= wanted
    case '<': return score < wanted
  }
}

export const thirdPartyScore = conditionType<z.infer<typeof schema>>({
  type: 'third-party-score', schema, os: ['linux', 'windows', 'macos'], side: 'ems', section: 'scores',
  evaluate({ source, comparator, score }, fact, { now }) {
    const known = scoreOf(fact, source, now)
    if (known === null) return { value: 'unknown', seen: `${source} has no score that stands`, validUntil: null }
    return { value: holds(known.score, comparator, score) ? 'true' : 'false', seen: `${source} scores ${known.score}`, validUntil: known.told.expiresAt, factAt: known.told.at }
  },
  wanted: ({ source, comparator, score }) => `the score of ${source} ${comparators[comparator]} ${score}`,
  mend: ({ source, comparator, score }, negate) => `See in ${source} what makes the score, until it ${negate ? 'no longer ' : ''}${comparators[comparator]} ${score}.`,
})
