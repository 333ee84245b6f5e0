// The operating system's version, or when it was last updated. The family is the system under which the rule is written. What is no version is unknown.
import { z } from 'zod'
import type { Sections } from '../../../protocol/facts.ts'
import { line } from '../../../protocol/text.ts'
import { folded } from '../../user/folded.ts'
import { conditionType } from '../condition-type.ts'
import { comparator, dottedVersion, versionHolds, versionMend, versionWanted, type Comparator } from '../dotted-version.ts'
import { ageOf, day } from '../freshness.ts'

const schema = z.strictObject({
  comparator: comparator.optional(),
  version: dottedVersion.optional(),
  /** Only this product: `Debian GNU/Linux`, `Windows 11`. Compared without case, as a prefix. */
  name: line(128).optional(),
  /** Alone: an update was installed within so many days. It falls due by itself. */
  updatedWithinDays: z.number().int().min(1).max(3650).optional(),
}).superRefine(({ comparator: asked, version, name, updatedWithinDays: days }, context) => {
  const issue = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message })
  if (days === undefined && asked === undefined) issue('comparator', 'name a comparator and a version, or updatedWithinDays')
  if (days === undefined && version === undefined) issue('version', 'name the version to compare with')
  for (const [path, value] of Object.entries({ comparator: asked, version, name })) if (days !== undefined && value !== undefined) issue(path, 'is no part of updatedWithinDays: write two conditions')
}).transform(({ comparator: asked = '>=', version = '', name, updatedWithinDays }) => (updatedWithinDays === undefined ? { comparator: asked, version, name } : { updatedWithinDays }))

type Params = { readonly comparator: Comparator; readonly version: string; readonly name: string | undefined } | { readonly updatedWithinDays: number }

export const osVersion = conditionType<Params>({
  type: 'os-version', schema, os: ['linux', 'windows', 'macos'], side: 'ems', section: { by: (params) => ['updatedWithinDays' in params ? 'updates' : 'os'] },
  evaluate(params, fact, { now }) {
    if ('updatedWithinDays' in params) {
      const { installedAt } = fact.value as Sections['updates']
      if (installedAt === undefined) return { value: 'unknown', seen: 'the system does not tell when it was updated', validUntil: null }
      const { age, ends } = ageOf(installedAt, fact.at, params.updatedWithinDays * day, now)
      return { value: ends === null ? 'false' : 'true', seen: `last updated ${age}`, validUntil: ends }
    }
    const os = fact.value as Sections['os']
    const seen = `${os.name} ${os.version}`.trim()
    if (params.name !== undefined && !folded(os.name).startsWith(folded(params.name))) return { value: 'false', seen, validUntil: null }
    const holds = versionHolds(os.version, params.comparator, params.version)
    return { value: holds === null ? 'unknown' : holds ? 'true' : 'false', seen, validUntil: null }
  },
  wanted: (params) => ('updatedWithinDays' in params ? `an update of the system within ${params.updatedWithinDays} days` : `${params.name ?? 'the system'} version ${versionWanted(params.comparator, params.version)}`),
  mend(params, negate) {
    if ('updatedWithinDays' in params) return negate ? 'Nothing to mend: this marks devices that are kept up to date.' : 'Install the pending updates of the system.'
    return versionMend(params.name ?? 'the operating system', params.comparator, params.version, negate)
  },
})
