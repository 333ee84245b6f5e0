// Where somebody connects from, as countries. Coarse, and of the network, not of the person: it says where an address is registered, no more.
import { z } from 'zod'

/** ISO 3166-1, `nowhere` for an address that is of no country, as private ones are; `unknown` without a database, or when it does not tell. */
export type Origin = 'unknown' | 'nowhere' | Uppercase<string>

const names = new Intl.DisplayNames('en', { type: 'region', fallback: 'none' })
/** A code that stands for another (UK for GB) is none: no database has it, and a rule that names it would never hold. */
const isCountry = (text: string): boolean => names.of(text) !== undefined && Intl.getCanonicalLocales(`und-${text}`)[0] === `und-${text}`

const detail = 'must be the code of a country (ISO 3166-1) like DE'
export const countryCode = z.string().regex(/^[A-Z]{2}$/, { error: detail, abort: true }).refine((text): text is Uppercase<string> => isCountry(text), detail)
/** What a policy asks. */
export const geoCondition = z.strictObject({ countries: z.array(countryCode).min(1).max(250) })
