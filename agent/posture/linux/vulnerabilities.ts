// On Debian and its kin: installed packages that have a newer version in a security archive. How bad each is, apt does not say: `unrated`.
import { join } from 'node:path'
import type { Sections } from '../../../protocol/facts.ts'
import { createKept } from '../kept.ts'
import { asLine, readCommand, readNames, type RunCommand } from '../read.ts'

type Vulnerabilities = Sections['vulnerabilities']
type Found = Vulnerabilities['found'][number]
const MAX_FOUND = 5_000
const MAX_SOURCES = 2_000

/** `Inst name [old] (new Origin:release [arch])` lines whose origin is a security archive. */
export function parseUpgrades(text: string): Found[] {
  return text.split('\n').flatMap((row) => {
    const found = /^Inst (\S+) \[([^\]]*)\] \((\S+) ([^)]*)\)/.exec(row)
    if (found === null || !/security/i.test(found[4] ?? '')) return []
    const name = found[1] ?? ''
    return [{ id: asLine(`update:${name}`, 64), name: asLine(`${name} ${found[2] ?? ''} has a security update: ${found[3] ?? ''}`, 256), severity: 'unrated' as const, package: asLine(name, 256) }]
  }).sort((a, b) => (a.package < b.package ? -1 : 1)).slice(0, MAX_FOUND)
}

/** What apt works from: lists, what is installed and held, where from and what is preferred. */
const sources = ['var/lib/apt/lists', 'var/lib/dpkg/status', 'var/lib/apt/extended_states', 'etc/apt', 'etc/apt/sources.list', 'etc/apt/preferences', 'etc/apt/apt.conf']
const directories = ['var/lib/apt/lists', 'etc/apt/sources.list.d', 'etc/apt/preferences.d', 'etc/apt/apt.conf.d']

/** Remembers when the findings last changed: a scan that finds the same is no news. Where nothing changed that apt works from, it is not asked again. */
export function linuxVulnerabilities(root: string, now: () => number, run: RunCommand = readCommand): () => Promise<Vulnerabilities | null> {
  const kept = createKept<Found[] | null>()
  let last: Vulnerabilities | null = null
  return async () => {
    // Without package lists apt finds nothing to upgrade, which would look like health.
    const lists = await readNames(join(root, 'var/lib/apt/lists')) ?? []
    if (!lists.some((name) => /_Packages(\.\w+)?$/.test(name))) return null
    const within = (await Promise.all(directories.map(async (path) => (await readNames(join(root, path)) ?? []).map((name) => `${path}/${name}`)))).flat().slice(0, MAX_SOURCES)
    const found = await kept('apt', [...sources, ...directories, ...within].map((path) => join(root, path)), async () => {
      const text = await run('apt-get', ['-s', '-qq', '-o', 'Debug::NoLocking=true', 'upgrade'], 120_000)
      return text === null ? null : parseUpgrades(text)
    })
    if (found === null) return null
    if (last === null || JSON.stringify(last.found) !== JSON.stringify(found)) last = { scannedAt: now(), scanner: 'apt', found }
    return last
  }
}
