// ClamAV: whether it guards, and how old its signatures are by their own header.
import { join } from 'node:path'
import type { Sections, State } from '../../../protocol/facts.ts'
import { createKept } from '../kept.ts'
import { asLine, isThere, readForeign, readText, type RunCommand } from '../read.ts'
import { listProcesses } from './processes.ts'

type Product = Sections['antivirus']['products'][number]
/** The header of a database file. */
const HEADER_BYTES = 512
const engines = ['usr/sbin/clamd', 'usr/local/sbin/clamd', 'opt/clamav/sbin/clamd']
const guards = ['usr/sbin/clamonacc', 'usr/bin/clamonacc', 'usr/local/sbin/clamonacc', 'usr/local/bin/clamonacc', 'opt/clamav/sbin/clamonacc']
const scanners = ['usr/bin/clamscan', 'usr/local/bin/clamscan', 'opt/clamav/bin/clamscan']

/** `ClamAV-VDB:built:version:signatures:level:md5:signature:builder:seconds`, padded: its version, and when it was made (ms). */
export function parseDatabaseHeader(header: string): { version: string; at: number } | null {
  const fields = header.trimEnd().split(':')
  const [magic, , version] = fields
  const seconds = fields[8] ?? ''
  return magic !== 'ClamAV-VDB' || !/^\d{1,10}$/.test(version ?? '') || !/^\d{1,11}$/.test(seconds) ? null : { version: version ?? '', at: Number(seconds) * 1000 }
}
/** `ClamAV 1.0.7/27436/Sun Oct 20 08:35:12 2024`, or without signatures `ClamAV 1.0.7`. */
export const parseVersion = (text: string): string => /^ClamAV (\d[\w.+~-]*)/.exec(text)?.[1] ?? ''

/** Whether programs of both kinds run from where the system installed them: an engine alone looks at nothing until it is asked. */
export function guarding(processes: readonly { readonly name: string; readonly path: string }[], root: string): State {
  const stateOf = (programs: readonly string[]): State => {
    const paths = programs.map((path) => join(root, path))
    const named = processes.filter(({ name, path }) => paths.includes(path) || (path === '' && programs.some((program) => program.endsWith(`/${name}`))))
    return named.some(({ path }) => path !== '') ? 'on' : named.length > 0 ? 'unknown' : 'off'
  }
  const states = [stateOf(engines), stateOf(guards)]
  return states.includes('off') ? 'off' : states.includes('unknown') ? 'unknown' : 'on'
}

/** @param root where the machine's file system begins */
export function clamAv(root: string, run: RunCommand): () => Promise<Product | null> {
  const kept = createKept<string | null>()
  const firstOf = async (paths: readonly string[]): Promise<string | null> => {
    for (const path of paths) if (await isThere(join(root, path))) return join(root, path)
    return null
  }
  async function signatures(): Promise<{ version: string; at: number } | null> {
    const configured = /^[ \t]*DatabaseDirectory[ \t]+(\S+)/m.exec(await readText(join(root, 'etc/clamav/freshclam.conf')) ?? await readText(join(root, 'etc/freshclam.conf')) ?? '')?.[1]
    const directory = join(root, configured ?? 'var/lib/clamav')
    // `daily` is what changes; it lies there as it was published, or as increments made it.
    const found = await Promise.all(['daily.cld', 'daily.cvd'].map(async (name) => parseDatabaseHeader((await readForeign(join(directory, name), HEADER_BYTES, null))?.toString('latin1') ?? '')))
    return found.reduce((newest, each) => (each !== null && each.at > (newest?.at ?? 0) ? each : newest), null)
  }
  function running(): State {
    try {
      return guarding(listProcesses(join(root, 'proc')), root)
    } catch {
      return 'unknown' // not all processes can be looked at: nothing can be said to be missing
    }
  }

  return async () => {
    const program = await firstOf(engines) ?? await firstOf(scanners)
    if (program === null) return null
    const [databases, version] = [await signatures(), parseVersion(await kept('version', [program], () => run(program, ['--version'])) ?? '')]
    return {
      name: 'ClamAV', running: running(), source: 'clamav', ...(version === '' ? {} : { version: asLine(version, 64) }),
      ...(databases === null ? {} : { signaturesAt: databases.at, signaturesVersion: databases.version }),
    }
  }
}
