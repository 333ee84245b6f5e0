// What is installed, by the system's own package database: dpkg, else rpm, else apk. No database: the section is missing.
import type { Sections } from '../../../protocol/facts.ts'
import { asLine, readCommand, type RunCommand } from '../read.ts'

type Package = Sections['software']['packages'][number]
const MAX_PACKAGES = 20_000

interface Row { readonly name: string; readonly version: string; readonly source?: { readonly name: string; readonly version: string } }
const rows = (text: string, read: (row: string) => Row | null, ecosystem: Package['ecosystem']): Package[] =>
  text.split('\n').flatMap((row) => {
    const found = read(row)
    const name = asLine(found?.name ?? '', 256)
    if (found === null || name === '') return []
    const version = asLine(found.version, 128)
    const source = { name: asLine(found.source?.name ?? '', 256), version: asLine(found.source?.version ?? '', 128) }
    return [{ ecosystem, name, version, ...(source.name === '' || (source.name === name && source.version === version) ? {} : { source }) }]
  })

/** The second letter says what is: a held package is installed, a removed one whose configuration stayed is not. Debian names its advisories by source. */
export const parseDpkg = (text: string): Package[] => rows(text, (row) => {
  const [name = '', version = '', source = '', sourceVersion = ''] = row.slice(4).split('\t')
  return /^.i \t/.test(row) ? { name, version, source: { name: source, version: sourceVersion } } : null
}, 'deb')
/** `openssl-3.0.7-27.el9.src.rpm`: its epoch is not told, so it is taken for the package's own. */
export const parseRpm = (text: string): Package[] => rows(text, (row) => {
  const [name = '', version = '', file = ''] = row.split('\t')
  const source = /^(.+)-([^-]+-[^-]+)\.(?:no)?src\.rpm$/.exec(file)
  const epoch = /^\d+:/.exec(version)?.[0] ?? ''
  return { name, version, ...(source === null ? {} : { source: { name: source[1] ?? '', version: `${epoch}${source[2] ?? ''}` } }) }
}, 'rpm')
/** `name-1.2-r3`: the version begins at the last but one hyphen. */
export const parseApk = (text: string): Package[] => rows(text, (row) => {
  const found = /^(.+?)-(\d[^\s-]*-r\d+)(\s|$)/.exec(row)
  return found === null ? null : { name: found[1] ?? '', version: found[2] ?? '' }
}, 'apk')

export async function linuxSoftware(run: RunCommand = readCommand): Promise<Sections['software'] | null> {
  const deb = await run('dpkg-query', ['-W', '-f', '${db:Status-Abbrev}\t${Package}\t${Version}\t${source:Package}\t${source:Version}\n'])
  const found = deb !== null ? parseDpkg(deb) : await others(run)
  if (found === null || found.length === 0) return null
  // Sorted and each once (one package for two architectures), so that the same software is the same section.
  const once = new Map(found.map((each) => [`${each.name}\t${each.version}`, each]))
  return { packages: [...once.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, each]) => each).slice(0, MAX_PACKAGES) }
}

async function others(run: RunCommand): Promise<Package[] | null> {
  const rpm = await run('rpm', ['-qa', '--qf', '%{NAME}\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\t%{SOURCERPM}\n'])
  if (rpm !== null) return parseRpm(rpm)
  const apk = await run('apk', ['list', '--installed'])
  return apk === null ? null : parseApk(apk)
}
