// Tries a file that names sources of sights without running a gateway: is it right, and what does each source tell now?
import { readFile } from 'node:fs/promises'
import { systemCommands } from '../commands.ts'
import { openSources } from './read-source.ts'
import { readSources } from './sources-file.ts'

export interface SourcesCheck {
  readonly ok: boolean
  readonly errors: readonly string[]
  /** `failure` null: it could be read. */
  readonly sources: readonly { readonly name: string; readonly taken: number; readonly skipped: number; readonly failure: string | null }[]
}

/** Rejects when the file itself can't be read. @param now ms */
export async function checkSources(file: string, now: number): Promise<SourcesCheck> {
  const read = readSources(await readFile(file, 'utf8'))
  if (!read.ok) return { ok: false, errors: read.errors.map((error) => `${file}: ${error}`), sources: [] }
  const sources = await Promise.all(openSources(read.sources, { commands: systemCommands(), sightMs: 1_000 }).map((source) => source.read(now).then(
    ({ sights, skipped }) => ({ name: source.name, taken: sights.length, skipped, failure: null }),
    (cause: unknown) => ({ name: source.name, taken: 0, skipped: 0, failure: cause instanceof Error ? cause.message : String(cause) }),
  )))
  return { ok: sources.every(({ failure }) => failure === null), errors: [], sources }
}

/** A sentence for each mistake, and each source. */
export const describeSources = (check: SourcesCheck | null): string[] => (check === null ? [] : [
  ...check.errors,
  ...check.sources.map(({ name, taken, skipped, failure }) => (failure === null ? `${name}: ${taken} addresses${skipped === 0 ? '' : `, ${skipped} entries are no sight`}` : `${name}: ${failure}`)),
])
