// Globally installed npm packages, as `npm ls -g` lists them, read from their own package.json. npm is not run, and what they bundle is not listed.
import { join } from 'node:path'
import type { Sections } from '../../protocol/facts.ts'
import { createKept } from './kept.ts'
import { findLibraries, type Homes, type Library, type Place } from './places.ts'
import { asLine, parseJson, readForeign, readNamesUpTo } from './read.ts'

type Package = Sections['software']['packages'][number]
const MOST_PACKAGES = 5_000
const MAX_MANIFEST_BYTES = 1024 * 1024

const places: Record<'distribution' | 'system' | 'user', readonly Place[]> = {
  // Distributions build their Node packages into directories of their own (/usr/share/nodejs).
  distribution: [],
  system: [
    ['usr/lib/node_modules'], ['usr/local/lib/node_modules'], ['opt/homebrew/lib/node_modules'], ['opt', /^node/, 'lib/node_modules'],
    ['Program Files/nodejs/node_modules'],
  ],
  user: [
    ['.npm-global/lib/node_modules'], ['.local/lib/node_modules'], ['.nvm/versions/node', /^v\d/, 'lib/node_modules'],
    ['.local/share/fnm/node-versions', /^v\d/, 'installation/lib/node_modules'], ['.volta/tools/image/packages', /^[^.]/, 'lib/node_modules'],
    ['AppData/Roaming/npm/node_modules'],
  ],
}

/** Name and version of a package.json; null when it has none. */
export function parseManifest(text: string): { name: string; version: string } | null {
  const manifest = parseJson(text)
  const { name, version } = (typeof manifest === 'object' && manifest !== null ? manifest : {}) as { name?: unknown; version?: unknown }
  return typeof name !== 'string' || typeof version !== 'string' || asLine(name, 256) === '' ? null : { name: asLine(name, 256), version: asLine(version, 128) }
}

interface Listed { readonly packages: readonly Package[]; readonly scopes: readonly string[] }

async function readLibrary({ path, owner }: Library): Promise<Listed> {
  const names = (await readNamesUpTo(path, MOST_PACKAGES) ?? []).filter((name) => !name.startsWith('.')).sort()
  const packages: Package[] = []
  for (const name of names.filter((each) => !each.startsWith('@'))) {
    const text = await readForeign(join(path, name, 'package.json'), MAX_MANIFEST_BYTES, owner)
    const manifest = text === null ? null : parseManifest(text.toString('utf8'))
    if (manifest !== null) packages.push({ ecosystem: 'npm', ...manifest })
  }
  return { packages, scopes: names.filter((name) => name.startsWith('@')) }
}

/** Directories that did not change are not read again. */
export function npmPackages(clock?: () => number): (homes: Homes) => Promise<Package[]> {
  const kept = createKept<Listed>(clock)
  return async (homes) => {
    const found: Package[] = []
    for (const library of await findLibraries(homes, places)) {
      const { packages, scopes } = await kept(library.path, [library.path], () => readLibrary(library))
      found.push(...packages)
      // A scope is a directory of its own, which changes without the one above.
      for (const scope of scopes) {
        const path = join(library.path, scope)
        found.push(...(await kept(path, [path], () => readLibrary({ ...library, path }))).packages)
        if (found.length >= MOST_PACKAGES) return found.slice(0, MOST_PACKAGES)
      }
    }
    return found.slice(0, MOST_PACKAGES)
  }
}
