// Applications of a Mac with their versions, and the packages of Python and npm. The profiler takes seconds, so it is asked only when a bundle changed.
import { join } from 'node:path'
import { z } from 'zod'
import type { Sections } from '../../../protocol/facts.ts'
import { createKept } from '../kept.ts'
import { npmPackages } from '../npm-packages.ts'
import type { Homes } from '../places.ts'
import { pythonPackages } from '../python-packages.ts'
import { asLine, parseJson, readNamesUpTo, type RunCommand } from '../read.ts'
import { listSoftware } from '../software.ts'

type Package = Sections['software']['packages'][number]
const directories = ['Applications', 'Applications/Utilities', 'System/Applications', 'System/Applications/Utilities']
const MOST_APPLICATIONS = 5_000

const application = z.object({ _name: z.string(), version: z.string().optional(), path: z.string().optional() })
const listing = z.object({ SPApplicationsDataType: z.array(z.unknown()) })

/** `system_profiler -json SPApplicationsDataType`; null: it is not that. */
export function parseApplications(text: string): Package[] | null {
  const read = listing.safeParse(parseJson(text))
  return read.success ? read.data.SPApplicationsDataType.slice(0, MOST_APPLICATIONS).flatMap((row) => {
    const told = application.safeParse(row)
    const name = told.success ? asLine(told.data._name, 256) : ''
    return name === '' ? [] : [{ ecosystem: 'macos' as const, name, version: asLine(told.data?.version ?? '', 128) }]
  }) : null
}

/** @param root where the machine's file system begins */
export function macosSoftware(root: string, run: RunCommand, homeOf: () => Promise<Homes['home']>): () => Promise<Sections['software'] | null> {
  const kept = createKept<Package[] | null>()
  const [python, npm] = [pythonPackages(), npmPackages()]
  return async () => {
    const home = await homeOf()
    const places = [...directories.map((path) => join(root, path)), ...home === null ? [] : [join(home.path, 'Applications')]]
    // An update may replace what is in a bundle and leave the bundle.
    const bundles = await Promise.all(places.map(async (path) => (await readNamesUpTo(path, MOST_APPLICATIONS) ?? []).filter((name) => name.endsWith('.app')).sort().map((name) => join(path, name, 'Contents/Info.plist'))))
    const applications = await kept('applications', [...places, ...bundles.flat().slice(0, MOST_APPLICATIONS)], async () => {
      const text = await run('/usr/sbin/system_profiler', ['-json', 'SPApplicationsDataType'], 120_000)
      return text === null ? null : parseApplications(text)
    })
    if (applications === null) return null
    const homes = { root, home }
    return listSoftware([...applications, ...await python(homes), ...await npm(homes)])
  }
}
