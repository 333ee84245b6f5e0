// Definitions as a file that can be read again: YAML or JSON, to a file or to standard output.
import { UsageError } from '../node/config.ts'
import type { Session } from './command.ts'
import { toYaml } from './definitions.ts'
import { harmless } from './harmless.ts'

/** @param said of what is written: `3 rule sets` */
export async function exportDefinitions({ printer, save }: Session, definitions: unknown, file: string | undefined, { yaml, force }: { readonly yaml: boolean; readonly force: boolean }, said: string): Promise<void> {
  if (yaml && printer.json) throw new UsageError('--yaml and --json say different things; give one.')
  if (file === undefined) return await printer.one(definitions, () => toYaml(definitions))
  await save(file, printer.json ? JSON.stringify(definitions, null, 2).split('\n').map(harmless) : toYaml(definitions), force)
  await printer.say(`${said}: written to ${file}.`)
}
