// What the distribution installed, by its own package database: dpkg, else rpm, else apk. Asked anew only when the database changed.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Sections } from '../../../protocol/facts.ts'
import { createKept } from '../kept.ts'
import { asLine, type RunCommand } from '../read.ts'

type Package = Sections['software']['packages'][number]
/** Such commands yield to the user's programs: on a busy machine a list takes long, and a list that was given up is software that nobody knows. */
export const LIST_LIMIT_MS = 120_000
/** Where the databases lie; a journal beside one changes before it does. */
const databases = [
  'var/lib/dpkg/status', 'var/lib/rpm/rpmdb.sqlite', 'var/lib/rpm/rpmdb.sqlite-wal', 'var/lib/rpm/Packages', 'var/lib/rpm/Packages.db',
  'usr/lib/sysimage/rpm/rpmdb.sqlite', 'usr/lib/sysimage/rpm/rpmdb.sqlite-wal', 'usr/lib/sysimage/rpm/Packages.db', 'lib/apk/db/installed', 'usr/lib/apk/db/installed',
]

/** Those that are there, to be watched. */
export const packageDatabases = (root: string): string[] => databases.map((path) => join(root, path)).filter((path) => existsSync(path))

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

async function ask(run: RunCommand): Promise<Package[] | null> {
  const deb = await run('dpkg-query', ['-W', '-f', '${db:Status-Abbrev}\t${Package}\t${Version}\t${source:Package}\t${source:Version}\n'], LIST_LIMIT_MS)
  const debs = deb === null ? [] : parseDpkg(deb)
  if (debs.length > 0) return debs
  const rpm = await run('rpm', ['-qa', '--qf', '%{NAME}\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\t%{SOURCERPM}\n'], LIST_LIMIT_MS)
  const rpms = rpm === null ? [] : parseRpm(rpm)
  if (rpms.length > 0) return rpms
  const apk = await run('apk', ['list', '--installed'], LIST_LIMIT_MS)
  const apks = apk === null ? [] : parseApk(apk)
  return apks.length > 0 ? apks : null
}

/** Null where no database tells. */
export function distributionPackages(root: string, run: RunCommand): () => Promise<Package[] | null> {
  const kept = createKept<Package[] | null>()
  const paths = databases.map((path) => join(root, path))
  return () => kept('distribution', paths, () => ask(run))
}
