// What is installed, by the system's own package database: dpkg, else rpm, else apk. No database: the section is missing.
import type { Sections } from '../../../protocol/facts.ts'
import { asLine, readCommand, type RunCommand } from '../read.ts'

type Package = Sections['software']['packages'][number]
const MAX_PACKAGES = 20_000

const rows = (text: string, read: (row: string) => { name: string; version: string } | null, ecosystem: Package['ecosystem']): Package[] =>
  text.split('\n').flatMap((row) => {
    const found = read(row)
    const name = asLine(found?.name ?? '', 256)
    return found === null || name === '' ? [] : [{ ecosystem, name, version: asLine(found.version, 128) }]
  })

const tabbed = (row: string) => {
  const [name = '', version = ''] = row.split('\t')
  return { name, version }
}
/** `Status` is first in dpkg's rows: a removed package whose configuration stayed is not installed. */
export const parseDpkg = (text: string): Package[] => rows(text, (row) => (row.startsWith('ii ') ? tabbed(row.slice(4)) : null), 'deb')
/** `name-1.2-r3`: the version begins at the last but one hyphen. */
export const parseApk = (text: string): Package[] => rows(text, (row) => {
  const found = /^(.+?)-(\d[^\s-]*-r\d+)(\s|$)/.exec(row)
  return found === null ? null : { name: found[1] ?? '', version: found[2] ?? '' }
}, 'apk')

export async function linuxSoftware(run: RunCommand = readCommand): Promise<Sections['software'] | null> {
  const deb = await run('dpkg-query', ['-W', '-f', '${db:Status-Abbrev}\t${Package}\t${Version}\n'])
  const found = deb !== null ? parseDpkg(deb) : await others(run)
  if (found === null || found.length === 0) return null
  // Sorted and each once (one package for two architectures), so that the same software is the same section.
  const once = new Map(found.map((each) => [`${each.name}\t${each.version}`, each]))
  return { packages: [...once.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, each]) => each).slice(0, MAX_PACKAGES) }
}

async function others(run: RunCommand): Promise<Package[] | null> {
  const rpm = await run('rpm', ['-qa', '--qf', '%{NAME}\t%{VERSION}-%{RELEASE}\n'])
  if (rpm !== null) return rows(rpm, tabbed, 'rpm')
  const apk = await run('apk', ['list', '--installed'])
  return apk === null ? null : parseApk(apk)
}
