// Where language tools install: directories found by their names, from the system's own places and the enrolled user's home. Nothing is searched for below them.
import { join } from 'node:path'
import { readNamesUpTo } from './read.ts'

/** Path segments; where names differ (versions), what they look like. */
export type Place = readonly (string | RegExp)[]
/** A directory of installed packages. */
export interface Library {
  readonly path: string
  /** Its files count only when they belong to this user (`readForeign`). */
  readonly owner: number | null
  /** The distribution installs here too, and its package database tells of that. */
  readonly distributions: boolean
}

const MOST_NAMES = 1_000
const MOST_LIBRARIES = 64

/** Directories at these places, in one order and bounded. They may be missing where the last segment is fixed. */
export async function findPlaces(start: string, places: readonly Place[]): Promise<string[]> {
  const found: string[] = []
  for (const place of places) {
    let at = [start]
    for (const segment of place) {
      if (typeof segment === 'string') at = at.map((path) => join(path, segment))
      else at = (await Promise.all(at.map(async (path) => (await readNamesUpTo(path, MOST_NAMES) ?? []).filter((name) => segment.test(name)).sort().map((name) => join(path, name))))).flat().slice(0, MOST_LIBRARIES)
    }
    found.push(...at)
  }
  return [...new Set(found)].slice(0, MOST_LIBRARIES)
}

export interface Homes {
  /** Where the machine's file system begins. */
  readonly root: string
  /** The enrolled user's home and id; null when the system does not tell. */
  readonly home: { readonly path: string; readonly uid: number } | null
}

/** The libraries of the system, of its distribution and of the user. An agent that has the user's rights only needs no proof of whose a file is. */
export async function findLibraries({ root, home }: Homes, places: { readonly distribution: readonly Place[]; readonly system: readonly Place[]; readonly user: readonly Place[] }): Promise<Library[]> {
  const of = async (start: string, wanted: readonly Place[], owner: number | null, distributions: boolean): Promise<Library[]> =>
    (await findPlaces(start, wanted)).map((path) => ({ path, owner, distributions }))
  return [
    ...await of(root, places.distribution, null, true), ...await of(root, places.system, null, false),
    ...home === null ? [] : await of(home.path, places.user, process.getuid === undefined || process.getuid() === home.uid ? null : home.uid, false),
  ]
}
