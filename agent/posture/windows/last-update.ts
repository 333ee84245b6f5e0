// When Windows last installed an update, and whether it waits for a restart.
import { z } from 'zod'
import type { Sections } from '../../../protocol/facts.ts'
import type { RunCommand } from '../read.ts'
import { askPowerShell, dateText } from './powershell.ts'

const SCRIPT = '@{ installed = (New-Object -ComObject Microsoft.Update.AutoUpdate).Results.LastInstallationSuccessDate; pending = (Test-Path \'HKLM:/SOFTWARE/Microsoft/Windows/CurrentVersion/WindowsUpdate/Auto Update/RebootRequired\') -or (Test-Path \'HKLM:/SOFTWARE/Microsoft/Windows/CurrentVersion/Component Based Servicing/RebootPending\') }'
const answer = z.object({ installed: dateText.nullish().catch(null), pending: z.boolean().nullish().catch(null) })

export function parseUpdates(told: unknown): Sections['updates'] | null {
  const read = answer.safeParse(told)
  if (!read.success) return null
  const { installed, pending } = read.data
  return { ...(installed === undefined || installed === null ? {} : { installedAt: installed }), ...(pending === undefined || pending === null ? {} : { restartPending: pending }) }
}

export const windowsUpdates = async (run: RunCommand): Promise<Sections['updates'] | null> => parseUpdates(await askPowerShell(run, SCRIPT))
