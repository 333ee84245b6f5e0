// Applications that snap and Flatpak installed for all users. Each tool is asked only when it changed something.
import { join } from 'node:path'
import type { Sections } from '../../../protocol/facts.ts'
import { createKept } from '../kept.ts'
import { asLine, isThere, type RunCommand } from '../read.ts'
import { LIST_LIMIT_MS } from './distribution-packages.ts'

type Package = Sections['software']['packages'][number]
const MOST_APPLICATIONS = 2_000

const application = (name = '', version = ''): Package[] => (asLine(name, 256) === '' ? [] : [{ ecosystem: 'other', name: asLine(name, 256), version: asLine(version, 128) }])

/** `snap list`: columns by blanks under a heading; a name has none. `-` stands for a version that nobody gave. */
export const parseSnaps = (text: string): Package[] => text.split('\n').slice(1).flatMap((row) => {
  const [name, version, revision] = row.trim().split(/\s+/)
  return revision === undefined ? [] : application(name, version === '-' ? '' : version)
}).slice(0, MOST_APPLICATIONS)

/** `flatpak list --columns=application,version`: by tabs; many say no version. */
export const parseFlatpaks = (text: string): Package[] => text.split('\n').flatMap((row) => {
  const [name, version] = row.split('\t')
  return application(name, version)
}).slice(0, MOST_APPLICATIONS)

export function linuxApplications(root: string, run: RunCommand): () => Promise<Package[]> {
  const kept = createKept<Package[] | null>()
  const ask = async (file: string, args: readonly string[], parse: (text: string) => Package[]) => {
    const text = await run(file, args, LIST_LIMIT_MS)
    return text === null ? null : parse(text)
  }
  /** Where a tool keeps nothing it has installed nothing, and need not be started to say so. */
  const listed = async (state: string, changes: readonly string[], file: string, args: readonly string[], parse: (text: string) => Package[]): Promise<Package[]> =>
    (await isThere(join(root, state)) ? await kept(file, changes.map((path) => join(root, path)), () => ask(file, args, parse)) : null) ?? []
  return async () => [
    ...await listed('var/lib/snapd', ['var/lib/snapd/snaps', 'snap'], 'snap', ['list', '--color=never', '--unicode=never'], parseSnaps),
    // Flatpak touches this file whenever something is installed, updated or removed.
    ...await listed('var/lib/flatpak', ['var/lib/flatpak/.changed'], 'flatpak', ['list', '--system', '--app', '--columns=application,version'], parseFlatpaks),
  ]
}
