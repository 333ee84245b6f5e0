// Python packages as their installers recorded them (PEP 376, PyPA "Recording installed projects"). No Python is run: a `.pth` file may hold code.
import { join } from 'node:path'
import { familyOf } from '../../domain/vulnerability/ecosystem.ts'
import type { Sections } from '../../protocol/facts.ts'
import { createKept } from './kept.ts'
import { findLibraries, type Homes, type Library, type Place } from './places.ts'
import { asLine, readForeign, readNamesUpTo } from './read.ts'

type Package = Sections['software']['packages'][number]
const MOST_NAMES = 50_000
const MOST_PACKAGES = 5_000
/** Name and version are among the first lines; a description of any length follows. */
const MAX_METADATA_BYTES = 64 * 1024

const python = /^(python|pypy)\d(\.\d+)?$/
const packages = /^(site|dist)-packages$/
export const pythonPlaces: Record<'distribution' | 'system' | 'user', readonly Place[]> = {
  distribution: [['usr/lib', python, packages], ['usr/lib64', python, packages]],
  system: [
    ['usr/local/lib', python, packages], ['usr/local/lib64', python, packages], ['opt', /^[^.]/, 'lib', python, packages],
    // Homebrew, python.org on macOS; python.org on Windows.
    ['opt/homebrew/lib', python, packages], ['Library/Frameworks/Python.framework/Versions', /^\d/, 'lib', python, packages],
    [/^Python\d+$/, 'Lib/site-packages'], ['Program Files', /^Python\d+$/, 'Lib/site-packages'],
  ],
  user: [
    ['.local/lib', python, packages], ['.pyenv/versions', /^[^.]/, 'lib', python, packages],
    ['.local/share/pipx/venvs', /^[^.]/, 'lib', python, packages], ['.local/pipx/venvs', /^[^.]/, 'lib', python, packages], ['.local/share/uv/tools', /^[^.]/, 'lib', python, packages],
    [/^(ana|mini)conda3|miniforge3$/, 'lib', python, packages], ['Library/Python', /^\d/, 'lib/python', packages],
    ['AppData/Local/Programs/Python', /^Python\d+/, 'Lib/site-packages'], ['AppData/Roaming/Python', /^Python\d+/, 'site-packages'],
  ],
}
const family = familyOf('PyPI')

/** Name and version of core metadata (`METADATA`, `PKG-INFO`): headers up to the first empty line. */
export function parseMetadata(text: string): { name: string; version: string } | null {
  const headers = /^[\s\S]*?(?=\r?\n\r?\n|$(?![\s\S]))/.exec(text)?.[0] ?? ''
  const header = (name: string) => asLine(new RegExp(`^${name}:[ \\t]*([^\\r\\n]+)`, 'mi').exec(headers)?.[1] ?? '', 256)
  const [name, version] = [header('Name'), header('Version')]
  return name === '' || version === '' ? null : { name, version: asLine(version, 128) }
}

/** `Name-Version.dist-info`, as the record is named where its metadata can't be read. */
export function parseRecordName(entry: string): { name: string; version: string } | null {
  const found = /^([A-Za-z0-9][A-Za-z0-9._]*)-(\d[A-Za-z0-9.!+_]*)(?:-py\d[\d.]*)?(?:-[\w-]+)?\.(?:dist-info|egg-info|egg)$/.exec(entry)
  return found === null ? null : { name: found[1] ?? '', version: found[2] ?? '' }
}

/** Who installed it: where a distribution installs too, what has no record or the distribution's is in its own database, with the fixes it carries back. */
async function isOthers(library: Library, entry: string): Promise<boolean> {
  if (!library.distributions) return false
  const installer = (await readForeign(join(library.path, entry, 'INSTALLER'), 256, library.owner))?.toString('utf8').trim().toLowerCase() ?? ''
  return ['', 'rpm', 'debian', 'apk', 'pacman', 'portage'].includes(installer)
}

async function readRecord({ path, owner }: Library, entry: string): Promise<{ name: string; version: string } | null> {
  const at = join(path, entry)
  const files = entry.endsWith('.dist-info') ? [join(at, 'METADATA')] : entry.endsWith('.egg') ? [join(at, 'EGG-INFO', 'PKG-INFO')] : [join(at, 'PKG-INFO'), at]
  for (const file of files) {
    const text = await readForeign(file, MAX_METADATA_BYTES, owner)
    if (text !== null) return parseMetadata(text.toString('utf8')) ?? parseRecordName(entry)
  }
  return null
}

async function readLibrary(library: Library): Promise<Package[]> {
  // `~` begins what a failed removal left behind.
  const entries = (await readNamesUpTo(library.path, MOST_NAMES) ?? []).filter((name) => /^[^~.].*\.(dist-info|egg-info|egg)$/.test(name)).sort().slice(0, MOST_PACKAGES)
  const found: Package[] = []
  for (const entry of entries) {
    const record = await isOthers(library, entry) ? null : await readRecord(library, entry)
    const name = asLine(family?.normalise(record?.name ?? '') ?? '', 256)
    if (record !== null && name !== '') found.push({ ecosystem: 'pypi', name, version: record.version })
  }
  return found
}

/** Packages that pip, uv, pipx and their kin installed for all users or for the enrolled one. Directories that did not change are not read again. */
export function pythonPackages(clock?: () => number): (homes: Homes) => Promise<Package[]> {
  const kept = createKept<Package[]>(clock)
  return async (homes) => {
    const found: Package[] = []
    for (const library of await findLibraries(homes, pythonPlaces)) found.push(...await kept(library.path, [library.path], () => readLibrary(library)))
    return found.slice(0, MOST_PACKAGES)
  }
}
