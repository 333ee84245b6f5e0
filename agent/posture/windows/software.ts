// What is installed on Windows: the programs that its settings list, and the packages of Python and npm.
import { z } from 'zod'
import type { Sections } from '../../../protocol/facts.ts'
import { npmPackages } from '../npm-packages.ts'
import type { Homes } from '../places.ts'
import { pythonPackages } from '../python-packages.ts'
import { asLine, type RunCommand } from '../read.ts'
import { listSoftware } from '../software.ts'
import { askPowerShell, rowsOf } from './powershell.ts'

type Package = Sections['software']['packages'][number]
const UNINSTALL = 'Microsoft\\Windows\\CurrentVersion\\Uninstall\\*'
const SCRIPT = `@(Get-ItemProperty ${['HKEY_LOCAL_MACHINE\\SOFTWARE', 'HKEY_LOCAL_MACHINE\\SOFTWARE\\WOW6432Node', 'HKEY_USERS\\*\\SOFTWARE'].map((hive) => `'Registry::${hive}\\${UNINSTALL}'`).join(',')} | Where-Object { $_.DisplayName } | Select-Object -First 20000 DisplayName,DisplayVersion,SystemComponent,ParentKeyName)`
const row = z.object({ DisplayName: z.string(), DisplayVersion: z.union([z.string(), z.number().transform(String)]).nullish(), SystemComponent: z.unknown().optional(), ParentKeyName: z.unknown().optional() })

/** Programs as Windows lists them: what is part of another, or hidden, is not one. */
export const parsePrograms = (told: unknown): Package[] => rowsOf(row, told).flatMap(({ DisplayName, DisplayVersion, SystemComponent, ParentKeyName }) => {
  const name = asLine(DisplayName, 256)
  const hidden = SystemComponent === 1 || (typeof ParentKeyName === 'string' && ParentKeyName !== '')
  return name === '' || hidden ? [] : [{ ecosystem: 'windows' as const, name, version: asLine(DisplayVersion ?? '', 128) }]
})

export function windowsSoftware(run: RunCommand, homeOf: () => Promise<Homes['home']>): () => Promise<Sections['software'] | null> {
  const [python, npm] = [pythonPackages(), npmPackages()]
  return async () => {
    const told = await askPowerShell(run, SCRIPT)
    if (told === undefined) return null
    const homes = { root: 'C:\\', home: await homeOf() }
    return listSoftware([...parsePrograms(told), ...await python(homes), ...await npm(homes)])
  }
}
