// Applications that snap and Flatpak installed for all users. Each tool is asked only when it changed something.
import { join } from 'node:path'
import type { Sections } from '../../../protocol/facts.ts'
import { createKept } from '../kept.ts'
import { asLine, type RunCommand } from '../read.ts'

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
    const text = await run(file, args)
    return text === null ? null : parse(text)
  }
  return async () => [
    ...await kept('snap', [join(root, 'var/lib/snapd/snaps'), join(root, 'snap')], () => ask('snap', ['list', '--color=never', '--unicode=never'], parseSnaps)) ?? [],
    // Flatpak touches this file whenever something is installed, updated or removed.
    ...await kept('flatpak', [join(root, 'var/lib/flatpak/.changed')], () => ask('flatpak', ['list', '--system', '--app', '--columns=application,version'], parseFlatpaks)) ?? [],
  ]
}
