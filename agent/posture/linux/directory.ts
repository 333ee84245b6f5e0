// Domains that this machine has joined, and what the name service says of the enrolled user. What only root may read is unknown to others, not absent.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Sections } from '../../../protocol/facts.ts'
import { asLine, isThere, readNames, readText, tellsOfFile, type RunCommand } from '../read.ts'
import { parsePasswd } from '../user.ts'

type Directory = Sections['directory']
type Joined = NonNullable<Directory['joined']>[number]
const MOST_GROUPS = 1024
const MOST_JOINED = 8

/** Sections of an INI file by lower-case name; `#` and `;` begin comments. */
export function parseIni(text: string): Map<string, Map<string, string>> {
  const sections = new Map<string, Map<string, string>>()
  let section = new Map<string, string>()
  for (const row of text.split('\n')) {
    const name = /^\s*\[([^\]]+)\]/.exec(row)?.[1]?.trim().toLowerCase()
    if (name !== undefined) sections.set(name, section = sections.get(name) ?? new Map<string, string>())
    const [, key, value] = /^\s*([^#;\s=[][^=]*?)\s*=\s*(.*?)\s*$/.exec(row) ?? []
    if (key !== undefined) section.set(key.toLowerCase(), value ?? '')
  }
  return sections
}

const named = (kind: Joined['kind'], domain: string): Joined[] => (asLine(domain, 253) === '' ? [] : [{ kind, domain: asLine(domain.toLowerCase(), 253) }])

/** Domains that SSSD is told to use. @param keytab whether the machine has keys of its own: without them it belongs to no Active Directory */
export function sssdDomains(configuration: string, keytab: boolean): Joined[] {
  const ini = parseIni(configuration)
  const enabled = ini.get('sssd')?.get('domains')?.split(',').map((name) => name.trim().toLowerCase())
  return [...ini].flatMap(([section, values]) => {
    const name = /^domain\/(.+)$/.exec(section)?.[1]
    if (name === undefined || enabled?.includes(name) === false || values.get('enabled')?.toLowerCase() === 'false') return []
    const provider = values.get('id_provider')?.toLowerCase()
    if (provider === 'ad') return keytab ? named('active-directory', values.get('ad_domain') ?? name) : []
    if (provider === 'ipa') return keytab ? named('sssd', values.get('ipa_domain') ?? name) : []
    return provider === 'ldap' ? named('ldap', name) : []
  })
}

/** `realm list`: domains that are configured, with what serves them. */
export function parseRealms(text: string): Joined[] {
  return text.split(/^(?=\S)/m).flatMap((block) => {
    const field = (name: string) => new RegExp(`^\\s+${name}: *(\\S.*?) *$`, 'm').exec(block)?.[1] ?? ''
    if (field('configured') === '' || field('configured') === 'no') return []
    const kind = field('client-software') === 'winbind' ? 'samba' : field('server-software') === 'active-directory' ? 'active-directory' : field('client-software') === 'sssd' ? 'sssd' : 'other'
    return named(kind, field('domain-name'))
  })
}

/** Samba as a member of a domain, by its own configuration. */
export function sambaDomain(configuration: string): Joined[] {
  const global = parseIni(configuration).get('global')
  return global?.get('security')?.toLowerCase() === 'ads' ? named('samba', global.get('realm') ?? '') : []
}

/** `id -Gnz`: names end with a zero byte, for some have blanks. */
export const parseGroups = (text: string): { name: string }[] =>
  [...new Set(text.split('\0').map((name) => asLine(name, 256)).filter((name) => name !== ''))].sort().slice(0, MOST_GROUPS).map((name) => ({ name }))

/** null: it is there and not for us. */
async function readOrAbsent(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return ''
    if (tellsOfFile(cause)) return null
    throw cause
  }
}

async function joinedDomains(root: string, run: RunCommand): Promise<Joined[] | null> {
  const files = ['etc/sssd/sssd.conf', ...(await readNames(join(root, 'etc/sssd/conf.d')) ?? []).filter((name) => /^[^.].*\.conf$/.test(name)).sort().map((name) => `etc/sssd/conf.d/${name}`)]
  const texts = await Promise.all(files.map((path) => readOrAbsent(join(root, path))))
  const samba = await readOrAbsent(join(root, 'etc/samba/smb.conf'))
  const realms = await isThere(join(root, 'usr/sbin/realm')) ? await run('realm', ['list', '--all']) : null
  if (realms === null && (texts.includes(null) || samba === null)) return null
  const keytab = await isThere(join(root, 'etc/krb5.keytab'))
  const found = [...realms === null ? [] : parseRealms(realms), ...sssdDomains(texts.join('\n'), keytab), ...keytab ? sambaDomain(samba ?? '') : []]
  // realmd and SSSD tell of the same domain: what was told first stands.
  return [...new Map(found.reverse().map((each) => [each.domain, each])).values()].sort((a, b) => (a.domain < b.domain ? -1 : 1)).slice(0, MOST_JOINED)
}

/**
 * The domain an account comes from: none for one of the machine's own file, else the one after `@` or before `\`, else the only one that is joined.
 * undefined: not known.
 */
export function domainOf(account: string, local: boolean, joined: readonly Joined[] | null): string | undefined {
  if (local) return ''
  const written = /@([^@]+)$/.exec(account)?.[1] ?? /^([^\\]+)\\/.exec(account)?.[1]
  if (written !== undefined) return asLine(written.toLowerCase(), 253)
  return joined?.length === 1 ? joined[0]?.domain : undefined
}

/**
 * @param root where the machine's file system begins
 * @param accountOf the enrolled user's account; null when the system knows none
 */
export async function linuxDirectory(root: string, ownerUid: number, run: RunCommand, accountOf: () => Promise<string | null>): Promise<Directory> {
  const [joined, account] = [await joinedDomains(root, run), await accountOf()]
  const local = parsePasswd(await readText(join(root, 'etc/passwd')) ?? '', ownerUid) !== null
  const told = account === null ? null : await run('id', ['-Gnz', '--', account])
  const domain = account === null ? undefined : domainOf(account, local, joined)
  return {
    ...(joined === null ? {} : { joined }), ...(domain === undefined ? {} : { loggedInDomain: domain }),
    ...(told === null ? {} : { groups: parseGroups(told), groupsFrom: 'name-service' as const }),
  }
}
