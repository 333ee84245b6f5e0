// What the probes read on Windows, from answers as PowerShell, dsregcmd and whoami print them.
import { expect, describe, it } from 'vitest'
import { parseConsoleUser, parseRegistration, parseTokenGroups, windowsDirectory } from '../../../agent/posture/windows/directory.ts'
import { parseUpdates } from '../../../agent/posture/windows/last-update.ts'
import { askPowerShell, dateText, rowsOf } from '../../../agent/posture/windows/powershell.ts'
import { parseAntivirus, parseSecurity, windowsProtection } from '../../../agent/posture/windows/protection.ts'
import { parsePrograms, windowsSoftware } from '../../../agent/posture/windows/software.ts'
import { sections } from '../../../protocol/facts.ts'

/** A laptop by Windows PowerShell 5.1, whose dates look so. */
const laptop = String.raw`{"uac":1,"secureBoot":true,"updateService":"Manual","updates":null,"firewall":[{"enabled":1,"name":"Domain"},{"enabled":1,"name":"Private"},{"enabled":1,"name":"Public"}],"volumes":[{"DriveLetter":"D:","ProtectionStatus":0,"VolumeType":1},{"DriveLetter":"C:","ProtectionStatus":1,"VolumeType":0},{"DriveLetter":"E:","ProtectionStatus":0,"VolumeType":2},{"DriveLetter":null,"ProtectionStatus":0,"VolumeType":1}],"defender":{"AMProductVersion":"4.18.25080.5","AMRunningMode":"Normal","RealTimeProtectionEnabled":true,"IsTamperProtected":true,"AntivirusSignatureLastUpdated":"\/Date(1790848800000)\/","AntivirusSignatureVersion":"1.419.231.0"},"center":[{"displayName":"Windows Defender","productState":397568}]}`
const told = (over: Record<string, unknown> = {}): unknown => ({ ...JSON.parse(laptop) as object, ...over })

describe('Windows\' protection', () => {
  it('is drive by drive, profile by profile', () => {
    expect(sections.security.parse(parseSecurity(told()))).toEqual({
      firewall: { state: 'on', product: 'Windows Firewall' }, diskEncryption: { state: 'off', method: '' }, mandatoryAccessControl: { state: 'unknown', product: '' }, automaticUpdates: { state: 'on', product: 'Windows Update' }, secureBoot: 'on',
      windows: {
        defenderRealTime: 'on', tamperProtection: 'on', bitlocker: [{ drive: 'C:', state: 'on', system: true }, { drive: 'D:', state: 'off', system: false }],
        firewallDomain: 'on', firewallPrivate: 'on', firewallPublic: 'on', automaticUpdates: 'on', uac: 'on',
      },
    })
    const volumes = (...rows: unknown[]) => parseSecurity(told({ volumes: rows }))?.diskEncryption
    expect(volumes({ DriveLetter: 'C:', ProtectionStatus: 1, VolumeType: 0 })).toEqual({ state: 'on', method: 'BitLocker' })
    // Locked: whether it is protected can't be told.
    expect(volumes({ DriveLetter: 'C:', ProtectionStatus: 1, VolumeType: 0 }, { DriveLetter: 'D:', ProtectionStatus: 2, VolumeType: 1 })?.state).toBe('unknown')
    expect(volumes()?.state).toBe('unknown')
    expect(parseSecurity(told({ firewall: [{ name: 'Domain', enabled: 1 }, { name: 'Private', enabled: 1 }, { name: 'Public', enabled: 0 }] }))).toMatchObject({ firewall: { state: 'off' }, windows: { firewallPublic: 'off', firewallPrivate: 'on' } })
    expect(parseSecurity(told({ firewall: { name: 'Domain', enabled: 2 } }))).toMatchObject({ firewall: { state: 'unknown' }, windows: { firewallDomain: 'unknown', firewallPublic: 'unknown' } })
  })
  it('has automatic updates unless a policy or its service says otherwise', () => {
    const state = (over: Record<string, unknown>) => parseSecurity(told(over))?.automaticUpdates.state
    expect([state({ updates: { NoAutoUpdate: 1, AUOptions: null } }), state({ updates: { NoAutoUpdate: 0, AUOptions: 4 } }), state({ updates: { AUOptions: 2 } }), state({ updateService: 'Disabled' }), state({ updateService: '' })]).toEqual(['off', 'on', 'off', 'off', 'unknown'])
  })
  it('is unknown where nothing is told, whatever the shape', () => {
    const nothing = parseSecurity({ firewall: 'on', volumes: { DriveLetter: 7 }, defender: 'x', uac: 'yes', secureBoot: 'true', updates: [], updateService: 5 })
    expect(sections.security.parse(nothing)).toMatchObject({ firewall: { state: 'unknown' }, diskEncryption: { state: 'unknown' }, automaticUpdates: { state: 'unknown' }, secureBoot: 'unknown', windows: { uac: 'unknown', defenderRealTime: 'unknown', tamperProtection: 'unknown' } })
    expect([parseSecurity(undefined), parseSecurity([]), parseSecurity('x'), parseAntivirus(null)]).toEqual([null, null, null, null])
  })
  it('is asked once for both sections', async () => {
    let asked = 0
    const { security, antivirus } = windowsProtection((_, args) => {
      asked++
      // A double quote would have to survive the command line of Windows.
      expect(args.at(-1)).not.toContain('"')
      return Promise.resolve(laptop)
    })
    expect((await Promise.all([security(), antivirus()])).every((each) => each !== null)).toBe(true)
    expect(asked).toBe(1)
    await security()
    expect(asked).toBe(2)
  })
})

describe('virus scanners on Windows', () => {
  it('are Defender by its own word, and others by the security centre\'s', () => {
    expect(sections.antivirus.parse(parseAntivirus(told()))).toEqual({ products: [{ name: 'Microsoft Defender', version: '4.18.25080.5', running: 'on', signaturesAt: 1_790_848_800_000, signaturesVersion: '1.419.231.0', source: 'defender' }] })
    const other = told({ center: [{ displayName: 'Windows Defender', productState: 393472 }, { displayName: 'ESET Security', productState: 266240 }, { displayName: 'Old\u202eScanner', productState: 262144 }, { displayName: '', productState: 1 }, { displayName: 'Snoozed', productState: 270336 }], defender: { AMRunningMode: 'Passive Mode', RealTimeProtectionEnabled: true } })
    expect(parseAntivirus(other)?.products.map(({ name, running, source }) => `${name} ${running} ${source}`)).toEqual(['Microsoft Defender off defender', 'ESET Security on security-center', 'Old Scanner off security-center', 'Snoozed off security-center'])
    // One result is no list.
    expect(parseAntivirus({ center: { displayName: 'Norton Security', productState: 397312 } })?.products).toEqual([{ name: 'Norton Security', running: 'on', source: 'security-center' }])
    expect(parseAntivirus({})).toBeNull()
  })
})

describe('programs on Windows', () => {
  const rows = '[{"DisplayName":"Mozilla Firefox (x64 de)","DisplayVersion":"131.0.2","SystemComponent":null,"ParentKeyName":null},{"DisplayName":"Update for X","DisplayVersion":"1","SystemComponent":null,"ParentKeyName":"X"},{"DisplayName":"Hidden part","DisplayVersion":"1","SystemComponent":1,"ParentKeyName":null},{"DisplayName":"Яндекс Браузер","DisplayVersion":null,"SystemComponent":0,"ParentKeyName":""},{"DisplayName":"  ","DisplayVersion":"1"},{"DisplayName":"Number","DisplayVersion":7}]'
  it('are those that its settings list', async () => {
    expect(parsePrograms(JSON.parse(rows)).map(({ name, version }) => `${name} ${version}`)).toEqual(['Mozilla Firefox (x64 de) 131.0.2', 'Яндекс Браузер ', 'Number 7'])
    expect(sections.software.parse(await windowsSoftware(() => Promise.resolve(rows), () => Promise.resolve(null))()).packages).toHaveLength(3)
    expect(await windowsSoftware(() => Promise.resolve(null), () => Promise.resolve(null))()).toBeNull()
  })
})

describe('a Windows machine\'s domain', () => {
  const status = '\r\n+----------------------------------------------------------------------+\r\n| Device State                                                         |\r\n+----------------------------------------------------------------------+\r\n\r\n             AzureAdJoined : YES\r\n          EnterpriseJoined : NO\r\n              DomainJoined : YES\r\n                DomainName : EXAMPLE\r\n               Device Name : laptop.example.com\r\n\r\n| Tenant Details                                                       |\r\n                TenantName : Contoso\r\n                  TenantId : 72f988bf-86f1-41af-91ab-2d7cd011db47\r\n'
  it('is what dsregcmd tells', () => {
    expect(parseRegistration(status)).toEqual([{ kind: 'active-directory', domain: 'example' }, { kind: 'entra', domain: 'contoso' }])
    expect(parseRegistration(status.replaceAll(': YES', ': NO'))).toEqual([])
    expect(parseRegistration(status.replace('TenantName : Contoso', 'TenantName : '))?.[1]?.domain).toBe('72f988bf-86f1-41af-91ab-2d7cd011db47')
    expect([parseRegistration(''), parseRegistration('The command is not known')]).toEqual([null, null])
  })
  it('is the user\'s at the console, or the machine itself', () => {
    expect([parseConsoleUser({ Name: 'LAPTOP', UserName: 'EXAMPLE\\ada' }), parseConsoleUser({ Name: 'LAPTOP', UserName: 'Laptop\\ada' }), parseConsoleUser({ Name: 'LAPTOP', UserName: null }), parseConsoleUser(undefined)]).toEqual(['example', '', undefined, undefined])
  })
  it('has groups by the token, whose names may be anything', async () => {
    const groups = '"Gruppenname","Typ","SID","Attribute"\r\n"Jeder","Bekannte Gruppe","S-1-1-0","Verbindliche Gruppe, Standardm\ufffd\ufffdig aktiviert"\r\n"VORDEFINIERT\\Benutzer","Alias","S-1-5-32-545","x"\r\n"EXAMPLE\\""odd"", group","Gruppe","S-1-5-21-1-2-3-1104","x"\r\n"Verbindliche Beschriftung\\Mittlere Verbindlichkeitsstufe","Bezeichnung","S-1-16-8192",""\r\n'
    expect(parseTokenGroups(groups)).toEqual([{ name: 'Jeder', sid: 'S-1-1-0' }, { name: 'EXAMPLE\\"odd", group', sid: 'S-1-5-21-1-2-3-1104' }, { name: 'VORDEFINIERT\\Benutzer', sid: 'S-1-5-32-545' }])
    const run = (file: string) => Promise.resolve(file.endsWith('dsregcmd.exe') ? status : file.endsWith('whoami.exe') ? groups : '{"Name":"LAPTOP","UserName":"EXAMPLE\\\\ada"}')
    expect(sections.directory.parse(await windowsDirectory(run, 'ada'))).toMatchObject({ loggedInDomain: 'example', groupsFrom: 'token' })
    // A service's token is not the user's.
    expect(await windowsDirectory(run, 'SYSTEM')).not.toHaveProperty('groups')
    expect(await windowsDirectory(() => Promise.resolve(null), 'SYSTEM')).toBeNull()
  })
})

describe('Windows\' updates', () => {
  it('have a date and perhaps a restart that waits', () => {
    expect(sections.updates.parse(parseUpdates(JSON.parse('{"installed":"\\/Date(1790848800000)\\/","pending":true}')))).toEqual({ installedAt: 1_790_848_800_000, restartPending: true })
    // Never: the year 1899.
    expect(parseUpdates({ installed: '/Date(-2209161600000)/', pending: false })).toEqual({ restartPending: false })
    expect(parseUpdates(undefined)).toBeNull()
  })
})

describe('an answer of PowerShell', () => {
  it('is read with its byte order mark, or is none', async () => {
    expect(await askPowerShell(() => Promise.resolve('\ufeff{"a":1}\r\n'), 'x')).toEqual({ a: 1 })
    expect([await askPowerShell(() => Promise.resolve(null), 'x'), await askPowerShell(() => Promise.resolve(' \r\n'), 'x'), await askPowerShell(() => Promise.resolve('Access denied'), 'x')]).toEqual([undefined, undefined, undefined])
    expect([rowsOf(dateText, '/Date(5)/'), rowsOf(dateText, ['2026-01-01T00:00:00Z', 7, '/Date(x)/', 'never']), rowsOf(dateText, null)]).toEqual([[5], [Date.UTC(2026, 0, 1)], []])
  })
})
