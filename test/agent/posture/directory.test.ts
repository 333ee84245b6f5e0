// Which domains a Linux machine has joined, and what the name service says of its user.
import { execFileSync } from 'node:child_process'
import { userInfo } from 'node:os'
import { afterEach, describe, expect, it } from 'vitest'
import { domainOf, linuxDirectory, parseGroups, parseIni, parseRealms, sambaDomain, sssdDomains } from '../../../agent/posture/linux/directory.ts'
import { readCommand } from '../../../agent/posture/read.ts'
import { sections } from '../../../protocol/facts.ts'
import { closeAll } from '../agent-under-test.ts'
import { machine } from './machine.ts'

afterEach(closeAll)
const nothing = () => Promise.resolve(null)
const sssd = '[sssd]\ndomains = example.com, ldap.example.org\nconfig_file_version = 2\nservices = nss, pam\n\n[domain/example.com]\n# id_provider = ldap\nid_provider = ad\nad_domain = Example.com\nkrb5_realm = EXAMPLE.COM\n[domain/ldap.example.org]\nid_provider=ldap\n[domain/unused.example]\nid_provider = ldap\n'
// `realm list` of a member of Active Directory by SSSD, and of one by winbind.
const realms = 'example.com\n  type: kerberos\n  realm-name: EXAMPLE.COM\n  domain-name: example.com\n  configured: kerberos-member\n  server-software: active-directory\n  client-software: sssd\n  required-package: sssd-tools\n  login-formats: %U@example.com\n  login-policy: allow-realm-logins\n'

describe('joined domains', () => {
  it('are what SSSD is told to use, of Active Directory only with keys of the machine\'s own', () => {
    expect(sssdDomains(sssd, true)).toEqual([{ kind: 'active-directory', domain: 'example.com' }, { kind: 'ldap', domain: 'ldap.example.org' }])
    expect(sssdDomains(sssd, false)).toEqual([{ kind: 'ldap', domain: 'ldap.example.org' }])
    expect(sssdDomains('[domain/ipa.example]\nid_provider = ipa\nipa_domain = ipa.example\n[domain/off]\nid_provider = ldap\nenabled = false\n[domain/local]\nid_provider = files\n', true)).toEqual([{ kind: 'sssd', domain: 'ipa.example' }])
    expect(sssdDomains('', true)).toEqual([])
    expect([...parseIni('a = 1\n[ Global ]\n; a = 2\n  A b = 3 = 4  \n[x\n').get('global') ?? []]).toEqual([['a b', '3 = 4']])
  })
  it('are what realmd lists, and what Samba is a member of', () => {
    expect(parseRealms(realms)).toEqual([{ kind: 'active-directory', domain: 'example.com' }])
    expect(parseRealms(realms.replace('client-software: sssd', 'client-software: winbind'))).toEqual([{ kind: 'samba', domain: 'example.com' }])
    expect([parseRealms(realms.replace('kerberos-member', 'no')), parseRealms('')]).toEqual([[], []])
    expect(sambaDomain('[global]\n  workgroup = EXAMPLE\n  security = ADS\n  realm = EXAMPLE.COM\n')).toEqual([{ kind: 'samba', domain: 'example.com' }])
    expect([sambaDomain('[global]\nworkgroup = WORKGROUP\n'), sambaDomain('[share]\nsecurity = ads\nrealm = X\n')]).toEqual([[], []])
  })
  it('are none where nothing is configured, and not known where that may not be read', async () => {
    const joined = async (files: Record<string, string>, run: (file: string) => Promise<string | null> = nothing) => sections.directory.parse(await linuxDirectory(await machine({ x: '', ...files }), 1, run, nothing)).joined
    expect(await joined({})).toEqual([])
    expect(await joined({ 'etc/sssd/sssd.conf': sssd, 'etc/krb5.keytab': 'x' })).toHaveLength(2)
    expect(await joined({ 'etc/sssd/conf.d/10-x.conf': sssd, 'etc/sssd/conf.d/.hidden.conf': '[domain/hidden]\nid_provider = ldap\n' })).toEqual([{ kind: 'ldap', domain: 'ldap.example.org' }])
    // A directory in its place can not be read, like a file that is root's.
    expect(await joined({ 'etc/sssd/sssd.conf/': '' })).toBeUndefined()
    expect(await joined({ 'etc/sssd/sssd.conf/': '', 'usr/sbin/realm': '' }, (file) => Promise.resolve(file === 'realm' ? realms : null))).toEqual([{ kind: 'active-directory', domain: 'example.com' }])
    expect(await joined({ 'etc/samba/smb.conf': '[global]\nsecurity = ads\nrealm = EXAMPLE.COM\n', 'etc/krb5.keytab': 'x', 'etc/sssd/sssd.conf': sssd })).toEqual([{ kind: 'active-directory', domain: 'example.com' }, { kind: 'ldap', domain: 'ldap.example.org' }])
  })
})

describe('the user', () => {
  it('comes from the domain that their account names, or the only one there is', () => {
    const one = [{ kind: 'ldap' as const, domain: 'one.example' }]
    expect([domainOf('ada', true, one), domainOf('ada@Example.com', false, []), domainOf('EXAMPLE\\ada', false, null), domainOf('ada', false, one), domainOf('ada', false, [...one, ...one]), domainOf('ada', false, null)]).toEqual(['', 'example.com', 'example', 'one.example', undefined, undefined])
  })
  it('is in the groups that the name service tells, blanks and scripts in their names', async () => {
    expect(parseGroups('staff\0domain users@example.com\0группа\0bad\u202ename\0staff\0\0')).toEqual([{ name: 'bad name' }, { name: 'domain users@example.com' }, { name: 'staff' }, { name: 'группа' }])
    expect(parseGroups(Array.from({ length: 3_000 }, (_, n) => `g${n}`).join('\0'))).toHaveLength(1_024)
    const asked: string[][] = []
    const found = await linuxDirectory(await machine({ 'etc/passwd': '' }), 5_000, (file, args) => {
      asked.push([file, ...args])
      return Promise.resolve('domain users@example.com\0')
    }, () => Promise.resolve('-u@example.com'))
    expect(sections.directory.parse(found)).toEqual({ joined: [], loggedInDomain: 'example.com', groups: [{ name: 'domain users@example.com' }], groupsFrom: 'name-service' })
    // A name that looks like an option is none.
    expect(asked).toEqual([['id', '-Gnz', '--', '-u@example.com']])
    expect(await linuxDirectory(await machine({ 'etc/passwd': '' }), 5_000, nothing, nothing)).toEqual({ joined: [] })
  })
  it('is here in the groups that id prints', async () => {
    const { username, uid } = userInfo()
    const found = await linuxDirectory('/', uid, readCommand, () => Promise.resolve(username))
    expect(found.groups?.map(({ name }) => name)).toEqual(execFileSync('id', ['-Gn', username], { encoding: 'utf8' }).trim().split(' ').sort())
    expect(found.loggedInDomain).toBe('')
  })
})
