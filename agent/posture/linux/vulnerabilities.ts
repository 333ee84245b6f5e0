// On Debian and its kin: installed packages that have a newer version in a security archive. How bad each is, apt does not say: `unrated`.
import { join } from 'node:path'
import type { Sections } from '../../../protocol/facts.ts'
import { asLine, readCommand, readNames, type RunCommand } from '../read.ts'

type Vulnerabilities = Sections['vulnerabilities']
type Found = Vulnerabilities['found'][number]
const MAX_FOUND = 5_000

/** `Inst name [old] (new Origin:release [arch])` lines whose origin is a security archive. */
export function parseUpgrades(text: string): Found[] {
  return text.split('\n').flatMap((row) => {
    const found = /^Inst (\S+) \[([^\]]*)\] \((\S+) ([^)]*)\)/.exec(row)
    if (found === null || !/security/i.test(found[4] ?? '')) return []
    const name = found[1] ?? ''
    return [{ id: asLine(`update:${name}`, 64), name: asLine(`${name} ${found[2] ?? ''} has a security update: ${found[3] ?? ''}`, 256), severity: 'unrated' as const, package: asLine(name, 256) }]
  }).sort((a, b) => (a.package < b.package ? -1 : 1)).slice(0, MAX_FOUND)
}

/** Remembers when the findings last changed: a scan that finds the same is no news. */
export function linuxVulnerabilities(root: string, now: () => number, run: RunCommand = readCommand): () => Promise<Vulnerabilities | null> {
  let last: Vulnerabilities | null = null
  return async () => {
    // Without package lists apt finds nothing to upgrade, which would look like health.
    const lists = await readNames(join(root, 'var/lib/apt/lists')) ?? []
    if (!lists.some((name) => /_Packages(\.\w+)?$/.test(name))) return null
    const text = await run('apt-get', ['-s', '-qq', '-o', 'Debug::NoLocking=true', 'upgrade'], 120_000)
    if (text === null) return null
    const found = parseUpgrades(text)
    if (last === null || JSON.stringify(last.found) !== JSON.stringify(found)) last = { scannedAt: now(), scanner: 'apt', found }
    return last
  }
}
