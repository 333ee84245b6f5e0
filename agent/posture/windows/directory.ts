// What Windows tells of its domain, its tenant and the user at the console. Groups are those of the agent's own token, so a service tells none.
import { z } from 'zod'
import type { Sections } from '../../../protocol/facts.ts'
import { asLine, type RunCommand } from '../read.ts'
import { askPowerShell, SYSTEM32 } from './powershell.ts'

type Directory = Sections['directory']
type Joined = NonNullable<Directory['joined']>[number]
const SCRIPT = 'Get-CimInstance Win32_ComputerSystem | Select-Object Name,UserName'
const computer = z.object({ Name: z.string(), UserName: z.string().nullish() })

/** `dsregcmd /status`: rows of `Name : Value`, in English on every Windows. null: it is not that. */
export function parseRegistration(text: string): Joined[] | null {
  const fields = new Map([...text.matchAll(/^\s*(\w+) : (.*?)\s*$/gm)].map(([, name, value]) => [name ?? '', value ?? '']))
  if (!fields.has('AzureAdJoined')) return null
  const joined = (field: string, kind: Joined['kind'], domain: string): Joined[] => {
    const name = asLine(domain.toLowerCase(), 253)
    return fields.get(field) === 'YES' && name !== '' ? [{ kind, domain: name }] : []
  }
  return [...joined('DomainJoined', 'active-directory', fields.get('DomainName') ?? ''), ...joined('AzureAdJoined', 'entra', fields.get('TenantName') || fields.get('TenantId') || '')]
}

/** `whoami /groups /fo csv`: name, kind, SID, attributes, under headings in the system's language. Integrity levels are no groups. */
export const parseTokenGroups = (text: string): NonNullable<Directory['groups']> => text.split(/\r?\n/).flatMap((row) => {
  const [, given = '', sid = ''] = /^"((?:[^"]|"")*)","(?:[^"]|"")*","(S-1-[\d-]+)",/.exec(row) ?? []
  const name = asLine(given.replaceAll('""', '"'), 256)
  return name === '' || sid.length > 190 || sid.startsWith('S-1-16-') ? [] : [{ name, sid }]
}).sort((a, b) => (a.sid < b.sid ? -1 : 1)).slice(0, 1024)

/** The domain before the name of the user at the console; empty: the machine's own account. undefined: nobody is there, or that is not told. */
export function parseConsoleUser(told: unknown): string | undefined {
  const read = computer.safeParse(told)
  const [domain, account] = (read.success ? read.data.UserName ?? '' : '').split('\\')
  if (!read.success || domain === undefined || account === undefined) return undefined
  return domain.toLowerCase() === read.data.Name.toLowerCase() ? '' : asLine(domain.toLowerCase(), 253)
}

/** @param account of the agent */
export async function windowsDirectory(run: RunCommand, account: string): Promise<Directory | null> {
  const registration = await run(`${SYSTEM32}\\dsregcmd.exe`, ['/status'])
  const joined = registration === null ? null : parseRegistration(registration)
  const domain = parseConsoleUser(await askPowerShell(run, SCRIPT))
  const token = /^(SYSTEM|LOCAL SERVICE|NETWORK SERVICE)$/i.test(account) ? null : await run(`${SYSTEM32}\\whoami.exe`, ['/groups', '/fo', 'csv'])
  if (joined === null && domain === undefined && token === null) return null
  return { ...(joined === null ? {} : { joined }), ...(domain === undefined ? {} : { loggedInDomain: domain }), ...(token === null ? {} : { groups: parseTokenGroups(token), groupsFrom: 'token' as const }) }
}
