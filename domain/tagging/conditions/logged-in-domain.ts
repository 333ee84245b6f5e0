// The domain that the user at the device logged in to, as the device tells it. Compared whole, without case.
import { z } from 'zod'
import type { Sections } from '../../../protocol/facts.ts'
import { line } from '../../../protocol/text.ts'
import { folded } from '../../user/folded.ts'
import { conditionType } from '../condition-type.ts'

const schema = z.strictObject({ /** Any of them. */ domains: z.array(line(253)).min(1).max(64) })
const said = (domains: readonly string[]) => domains.slice(0, 3).map((domain) => `"${domain.slice(0, 50)}"`).join(', ') + (domains.length > 3 ? ` or ${domains.length - 3} more` : '')

export const loggedInDomain = conditionType<z.infer<typeof schema>>({
  type: 'logged-in-domain', schema, os: ['linux', 'windows', 'macos'], side: 'ems', section: 'directory',
  evaluate({ domains }, fact) {
    const { loggedInDomain: own } = fact.value as Sections['directory']
    if (own === undefined) return { value: 'unknown', seen: 'the domain is not known', validUntil: null }
    return { value: own !== '' && domains.some((domain) => folded(domain) === folded(own)) ? 'true' : 'false', seen: own === '' ? 'a local account' : `logged in to "${own}"`, validUntil: null }
  },
  wanted: ({ domains }) => `logged in to the domain ${said(domains)}`,
  mend: ({ domains }, negate) => (negate ? `Log in with an account outside ${said(domains)}.` : `Log in with an account of ${said(domains)}.`),
})
