// `licence`: what the organisation issued to itself, and the seats taken. A budget, not a paywall.
import { z } from 'zod'
import { UsageError } from '../node/config.ts'
import { issueLicence, readLicence } from '../protocol/operations/admin.ts'
import type { Reply } from '../protocol/operation.ts'
import { line } from '../protocol/text.ts'
import { command } from './command.ts'
import { at } from './instants.ts'
import { fields } from './printer.ts'
import { date, listOf, wholeNumber } from './values.ts'

const describe = ({ seats, taken, features, endsAt, issuedAt }: Reply<typeof readLicence>): string[] => fields([
  ['seats', seats === null ? `${taken} taken, unlimited` : `${taken} taken of ${seats}`],
  ['features', features.join(', ')],
  ['ends', endsAt === null ? 'never' : at(endsAt)],
  ['issued', at(issuedAt)],
])

export const licenceCommands = [
  command({
    name: 'licence show', summary: 'The licence, and seats taken.', words: {}, options: {}, examples: ['licence show', 'licence show --json'],
    async run(_, { call, printer }) {
      const licence = await call(readLicence, {})
      await printer.one(licence, () => describe(licence))
    },
  }),
  command({
    name: 'licence issue', summary: 'Issue the licence anew; what is not said stays as it is.', note: 'Fewer seats than are taken throws nobody out: no new endpoint enrols until there are fewer.', words: {},
    options: {
      seats: { takes: 'N', says: 'how many endpoints may be enrolled, or unlimited', schema: z.union([z.literal('unlimited').transform(() => null), wholeNumber], { error: 'must be a whole number or unlimited' }).optional() },
      features: { takes: 'NAME,…', says: 'what the licence has', list: true, schema: listOf(line(64)).optional() },
      ends: { takes: 'DATE', says: 'a date (UTC), an instant, or never', schema: z.union([z.literal('never').transform(() => null), date], { error: 'must be never, a date like 2027-12-31, or 2027-12-31T18:00:00Z' }).optional() },
    },
    examples: ['licence issue --seats 500 --ends 2027-12-31', 'licence issue --seats unlimited --ends never'],
    async run({ options }, { call, printer }) {
      if (Object.values(options).every((value) => value === undefined)) throw new UsageError('licence issue needs what is to change: --seats, --features or --ends.')
      const { seats, features, endsAt } = await call(readLicence, {})
      const licence = await call(issueLicence, { body: { seats: options.seats === undefined ? seats : options.seats, features: options.features ?? features, endsAt: options.ends === undefined ? endsAt : options.ends } })
      await printer.one(licence, () => describe(licence))
    },
  }),
]
