// Microsoft Defender for Endpoint, as its own tool tells of its health. The same tool and the same answer on macOS.
import { join } from 'node:path'
import { z } from 'zod'
import type { Sections } from '../../../protocol/facts.ts'
import { asLine, isThere, parseJson, type RunCommand } from '../read.ts'

type Product = Sections['antivirus']['products'][number]

/** `mdatp health --output json`; milliseconds are told as text. */
const health = z.object({
  appVersion: z.string().optional(), definitionsVersion: z.string().optional(),
  definitionsUpdated: z.union([z.string().regex(/^\d{1,15}$/).transform(Number), z.number().int().min(0)]).optional().catch(undefined),
  realTimeProtectionEnabled: z.object({ value: z.boolean() }).optional().catch(undefined),
})

export function parseHealth(text: string): Product | null {
  const told = health.safeParse(parseJson(text))
  if (!told.success) return null
  const { appVersion, definitionsVersion, definitionsUpdated: at, realTimeProtectionEnabled: guards } = told.data
  return {
    name: 'Microsoft Defender for Endpoint', running: guards === undefined ? 'unknown' : guards.value ? 'on' : 'off', source: 'defender',
    ...(appVersion === undefined ? {} : { version: asLine(appVersion, 64) }), ...(definitionsVersion === undefined ? {} : { signaturesVersion: asLine(definitionsVersion, 64) }),
    ...(at === undefined || at === 0 ? {} : { signaturesAt: at }),
  }
}

/** Installed and silent is a state too. @param root where the machine's file system begins */
export const defenderForEndpoint = (root: string, run: RunCommand): () => Promise<Product | null> => async () => {
  if (!await isThere(join(root, 'usr/bin/mdatp')) && !await isThere(join(root, 'usr/local/bin/mdatp'))) return null
  const told = await run('mdatp', ['health', '--output', 'json'])
  return (told === null ? null : parseHealth(told)) ?? { name: 'Microsoft Defender for Endpoint', running: 'unknown', source: 'defender' }
}
