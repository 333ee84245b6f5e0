// Where on Linux the browsers of a user keep certificates: one NSS database for Chromium, Chrome and Edge, one in each profile of Firefox, and those in snaps and flatpaks.
import { dirname, isAbsolute, join, resolve } from 'node:path'
import { StoreFailure } from '../browser-store.ts'
import type { RunAsOwner } from './owner.ts'

const MAX_PROFILES_BYTES = 64 * 1024
const flatpaks = ['org.chromium.Chromium', 'com.google.Chrome', 'com.microsoft.Edge']
const firefoxes = ['.mozilla/firefox', '.config/mozilla/firefox', 'snap/firefox/common/.mozilla/firefox', '.var/app/org.mozilla.firefox/.mozilla/firefox', '.var/app/org.mozilla.firefox/config/mozilla/firefox']

/** Which of these are there, seen with the user's eyes: root may see less (homes over the network), and must not open what a user put there. */
async function existing(run: RunAsOwner, paths: readonly string[]): Promise<string[]> {
  if (paths.length === 0) return []
  const ran = await run('ls', ['-d', '--', ...paths])
  if (!ran.ok && ran.code === null) throw new StoreFailure(`The user's home can not be looked at: ${ran.reason}.`)
  const lines = new Set(ran.stdout.split('\n'))
  return paths.filter((path) => lines.has(path))
}

/** Directories of profiles by `profiles.ini`. */
export function parseProfiles(text: string, directory: string): string[] {
  return text.split(/^\[/m).filter((section) => /^Profile\d+\]/.test(section)).flatMap((section) => {
    const path = /^Path=(.+?)\r?$/m.exec(section)?.[1]
    if (path === undefined || path.includes('\0')) return []
    return [isAbsolute(path) ? resolve(path) : resolve(directory, path)]
  })
}

/** Directories of databases, that of Chromium first; it may not be there yet. */
export async function findDatabases(home: string, run: RunAsOwner): Promise<string[]> {
  const modern = join(home, '.local/share/pki/nssdb')
  const boxed = ['.pki/nssdb', '.local/share/pki/nssdb'].map((path) => join(home, 'snap/chromium/current', path))
    .concat(flatpaks.map((name) => join(home, '.var/app', name, 'data/pki/nssdb')))
  const lists = firefoxes.map((directory) => join(home, directory, 'profiles.ini'))
  const there = await existing(run, [modern, ...boxed, ...lists])
  const profiles: string[] = []
  for (const list of lists.filter((path) => there.includes(path))) {
    const read = await run('head', ['-c', String(MAX_PROFILES_BYTES), '--', list])
    profiles.push(...parseProfiles(read.stdout, dirname(list)))
  }
  // The last slash: directories only.
  const directories = (await existing(run, profiles.map((path) => `${path}/`))).map((path) => path.slice(0, -1))
  const found = [there.includes(modern) ? modern : join(home, '.pki/nssdb'), ...boxed.filter((path) => there.includes(path)), ...directories]
  return [...new Set(found)]
}
