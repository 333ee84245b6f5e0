// What the probes read on macOS, from answers as its tools print them.
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { findHome, homeOfMac } from '../../../agent/posture/home.ts'
import { macosDirectory, parseBinding, parseGroupNames, parseNode } from '../../../agent/posture/macos/directory.ts'
import { lastInstall, macosAntivirus, macosSecurity, macosUpdates, parseFileVault, parseFirewall, parseGatekeeper, parseIntegrity, parseSwitch } from '../../../agent/posture/macos/protection.ts'
import { macosSoftware, parseApplications } from '../../../agent/posture/macos/software.ts'
import { sections } from '../../../protocol/facts.ts'
import { closeAll } from '../agent-under-test.ts'
import { machine } from './machine.ts'

afterEach(closeAll)
/** Tools that answer, by name. */
const tools = (answers: Record<string, string | null>) => (file: string) => Promise.resolve(answers[file.split('/').at(-1) ?? ''] ?? null)

describe('a Mac\'s protection', () => {
  const answers = { fdesetup: 'FileVault is On.\n', socketfilterfw: 'Firewall is enabled. (State = 1)\n', spctl: 'assessments enabled\n', csrutil: 'System Integrity Protection status: enabled.\n', defaults: '1\n' }
  it('is what its tools say plainly', async () => {
    expect(sections.security.parse(await macosSecurity(tools(answers)))).toMatchObject({ firewall: { state: 'on' }, diskEncryption: { state: 'on', method: 'FileVault' }, macos: { fileVault: 'on', firewall: 'on', gatekeeper: 'on', systemIntegrity: 'on', automaticUpdates: 'on' } })
    expect(sections.security.parse(await macosSecurity(tools({})))).toMatchObject({ diskEncryption: { state: 'unknown' }, macos: { fileVault: 'unknown', firewall: 'unknown', gatekeeper: 'unknown', systemIntegrity: 'unknown', automaticUpdates: 'unknown' } })
    expect([parseFileVault('FileVault is Off.\n'), parseFileVault('FileVault is On.\nEncryption in progress: Percent completed = 42\n'), parseFileVault('Error: must be run as root'), parseFileVault('FileVault is Off, but needs to be restarted to finish.\n')]).toEqual(['off', 'off', 'unknown', 'off'])
    expect([parseFirewall('Firewall is disabled. (State = 0)\n'), parseFirewall('Firewall is blocking all non-essential incoming connections. (State = 2)\n'), parseFirewall('')]).toEqual(['off', 'on', 'unknown'])
    expect([parseGatekeeper('assessments disabled\n'), parseGatekeeper('')]).toEqual(['off', 'unknown'])
    expect([parseIntegrity('System Integrity Protection status: disabled.\n'), parseIntegrity('System Integrity Protection status: enabled (Custom Configuration).\n\nConfiguration:\n\tApple Internal: disabled\n\tKext Signing: enabled\n\tDebugging Restrictions: disabled\n'), parseIntegrity('System Integrity Protection status: unknown (Custom Configuration).\n')]).toEqual(['off', 'unknown', 'unknown'])
    expect([parseSwitch('0\n'), parseSwitch('true'), parseSwitch('10'), parseSwitch(null)]).toEqual(['off', 'on', 'unknown', 'unknown'])
  })

  const history = JSON.stringify({ SPInstallHistoryDataType: [
    { _name: 'macOS 15.1', install_date: '2026-10-29T09:12:33Z', install_version: '15.1', package_source: 'package_source_apple' },
    { _name: 'XProtectPlistConfigData', install_date: '2026-11-12T02:00:11Z', install_version: '5282', package_source: 'package_source_apple' },
    { _name: 'XProtectPlistConfigData', install_date: '2026-11-01T02:00:11Z', install_version: '5281', package_source: 'package_source_apple' },
    { _name: 'Numbers', install_date: '2026-11-20T02:00:11Z', package_source: 'package_source_apple' }, { _name: 7 }, { _name: 'macOS 99', install_date: 'soon' },
  ] })
  it('has signatures and updates by the history of installations', async () => {
    expect(sections.antivirus.parse(await macosAntivirus(tools({ defaults: '5282\n', spctl: 'assessments enabled\n', system_profiler: history })))).toEqual({ products: [{ name: 'XProtect', running: 'on', source: 'xprotect', signaturesVersion: '5282', signaturesAt: Date.UTC(2026, 10, 12, 2, 0, 11) }] })
    expect(await macosAntivirus(tools({}))).toBeNull()
    expect(sections.updates.parse(await macosUpdates(tools({ system_profiler: history })))).toEqual({ installedAt: Date.UTC(2026, 9, 29, 9, 12, 33) })
    expect([await macosUpdates(tools({})), await macosUpdates(tools({ system_profiler: '{}' })), lastInstall('x', /./)]).toEqual([null, null, null])
  })
})

describe('applications of a Mac', () => {
  const profile = '{\n  "SPApplicationsDataType" : [\n    {\n      "_name" : "Automator",\n      "arch_kind" : "arch_arm",\n      "lastModified" : "2026-09-03T10:34:10Z",\n      "obtained_from" : "apple",\n      "path" : "/System/Applications/Automator.app",\n      "version" : "2.10"\n    },\n    {\n      "_name" : "Microsoft Edge",\n      "obtained_from" : "identified_developer",\n      "path" : "/Applications/Microsoft Edge.app",\n      "version" : "153.0.4234.32"\n    },\n    {\n      "_name" : "个人工具",\n      "path" : "/Users/ada/Applications/x.app"\n    },\n    { "_name" : 7 },\n    { "_name" : "\\u202e" }\n  ]\n}\n'
  it('have the versions that the profiler tells', () => {
    expect(parseApplications(profile)?.map(({ ecosystem, name, version }) => `${ecosystem} ${name} ${version}`)).toEqual(['macos Automator 2.10', 'macos Microsoft Edge 153.0.4234.32', 'macos 个人工具 '])
    expect([parseApplications(''), parseApplications('{}'), parseApplications('{"SPApplicationsDataType":7}')]).toEqual([null, null, null])
  })
  it('are asked for again only when a bundle changed', async () => {
    const root = await machine({ 'Applications/Edge.app/Contents/Info.plist': '1' })
    let asked = 0
    const list = macosSoftware(root, (file) => {
      asked++
      return Promise.resolve(file.endsWith('system_profiler') && asked > 1 ? profile : null)
    }, () => Promise.resolve(null))
    expect(await list()).toBeNull()
    expect(sections.software.parse(await list()).packages).toHaveLength(3)
    const before = asked
    await writeFile(join(root, 'Applications/Edge.app/Contents/Info.plist'), '22')
    await mkdir(join(root, 'Applications/New.app'))
    await list()
    expect(asked).toBe(before + 1)
  })
})

describe('a Mac\'s domain', () => {
  const bound = '\nActive Directory Forest          = corp.example.com\nActive Directory Domain          = Corp.Example.com\nComputer Account                 = mac-01$\n\nAdvanced Options - User Experience\n  Create mobile account at login = Disabled\n'
  it('is what it is bound to, and its user\'s node', async () => {
    expect([parseBinding(bound), parseBinding('')]).toEqual([[{ kind: 'active-directory', domain: 'corp.example.com' }], []])
    expect([parseNode('OriginalNodeName:\n /Active Directory/CORP/corp.example.com\n'), parseNode('No such key: OriginalNodeName\n'), parseNode('OriginalNodeName:\n /Active Directory/CORP/All Domains\n')]).toEqual(['corp.example.com', '', ''])
    expect(sections.directory.parse(await macosDirectory(tools({ dsconfigad: bound, id: 'staff everyone\n', dscl: 'OriginalNodeName:\n /Active Directory/CORP/corp.example.com\n' }), 'ada'))).toEqual({ joined: [{ kind: 'active-directory', domain: 'corp.example.com' }], loggedInDomain: 'corp.example.com', groups: [{ name: 'everyone' }, { name: 'staff' }], groupsFrom: 'name-service' })
    expect(await macosDirectory(tools({ dsconfigad: '' }), 'ada')).toEqual({ joined: [], loggedInDomain: '' })
    // Bound, and nothing told of the account: whose it is is not known.
    expect(await macosDirectory(tools({ dsconfigad: bound }), 'ada')).not.toHaveProperty('loggedInDomain')
    expect(await macosDirectory(tools({}), '../../x')).toBeNull()
  })
  it('has groups only where their names can be told apart', () => {
    expect(parseGroupNames('staff everyone\n', '20 12\n')).toEqual([{ name: 'everyone' }, { name: 'staff' }])
    expect([parseGroupNames('CORP\\domain users staff\n', '20 12\n'), parseGroupNames(null, '20'), parseGroupNames('staff', null)]).toEqual([null, null, null])
  })
  it('has homes by id, for people are in no file there', async () => {
    const row = 'ada:********:70009:20::0:0:Ada Lovelace:/Users/ada:/bin/zsh\n'
    expect([homeOfMac(row, 70_009), homeOfMac(row, 1), homeOfMac('', 70_009), homeOfMac(null, 70_009)]).toEqual(['/Users/ada', undefined, undefined, undefined])
    const root = await machine({ x: '' })
    expect(await findHome(root, 70_009, tools({ id: row }))).toEqual({ path: join(root, 'Users/ada'), uid: 70_009 })
  })
})
