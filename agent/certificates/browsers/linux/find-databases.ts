// Where on Linux the browsers of a user keep certificates: one NSS database for Chromium, Chrome and Edge, one in each profile of Firefox, and those in snaps and flatpaks.
import { constants } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { isAbsolute, join, resolve } from 'node:path'
import { tellsOfFile } from '../../../posture/read.ts'

const MAX_PROFILES_BYTES = 64 * 1024
/** Twice as many certificates, while they are renewed, and some for whoever had the machine before: an endpoint may hold 32. */
export const MOST_DATABASES = 12
const flatpaks = ['org.chromium.Chromium', 'com.google.Chrome', 'com.microsoft.Edge']
const firefoxes = ['.mozilla/firefox', '.config/mozilla/firefox', 'snap/firefox/common/.mozilla/firefox', '.var/app/org.mozilla.firefox/.mozilla/firefox', '.var/app/org.mozilla.firefox/config/mozilla/firefox']

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory()
  } catch (cause) {
    if (tellsOfFile(cause)) return false
    throw cause
  }
}

/** The user's own file: a pipe in its place must not hold up the agent, a large one not fill its memory. */
async function readProfiles(path: string): Promise<string> {
  let file
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY)
  } catch (cause) {
    if (tellsOfFile(cause)) return ''
    throw cause
  }
  try {
    if (!(await file.stat()).isFile()) return ''
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_PROFILES_BYTES), 0, MAX_PROFILES_BYTES, 0)
    return buffer.toString('utf8', 0, bytesRead)
  } finally {
    await file.close()
  }
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
export async function findDatabases(home: string): Promise<string[]> {
  const modern = join(home, '.local/share/pki/nssdb')
  const found = [await isDirectory(modern) ? modern : join(home, '.pki/nssdb')]
  const boxed = ['.pki/nssdb', '.local/share/pki/nssdb'].map((path) => join(home, 'snap/chromium/current', path))
    .concat(flatpaks.map((name) => join(home, '.var/app', name, 'data/pki/nssdb')))
  for (const path of boxed) if (await isDirectory(path)) found.push(path)
  for (const each of firefoxes) {
    const directory = join(home, each)
    for (const profile of parseProfiles(await readProfiles(join(directory, 'profiles.ini')), directory)) if (await isDirectory(profile)) found.push(profile)
  }
  return [...new Set(found)].slice(0, MOST_DATABASES)
}
