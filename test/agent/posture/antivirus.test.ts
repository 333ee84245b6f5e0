// Virus scanners on Linux, from headers and answers as they are published, and from made-up machines.
import { afterEach, describe, expect, it } from 'vitest'
import { linuxAntivirus } from '../../../agent/posture/linux/antivirus.ts'
import { guarding, parseDatabaseHeader, parseVersion } from '../../../agent/posture/linux/clamav.ts'
import { parseHealth } from '../../../agent/posture/linux/defender.ts'
import { sections } from '../../../protocol/facts.ts'
import { closeAll } from '../agent-under-test.ts'
import { machine } from './machine.ts'

afterEach(closeAll)
const tools = (answers: Record<string, string | null>) => (file: string) => Promise.resolve(answers[file.split('/').at(-1) ?? ''] ?? null)
/** A header as freshclam wrote it (the signature is left out). */
const header = (version: number, seconds: number) => `ClamAV-VDB:16 Apr 2020 07-58 -0400:${version}:2267600:63:92baacd59fd26e6bcf03077add78d209:4Jp9JtGJY6nUk8JHDQQpQ:raynman:${seconds}`.padEnd(512, ' ')
const stat = (name: string) => `1 (${name}) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 100 0 0`
const process = (pid: number, name: string, program: string) => ({ [`proc/${pid}/stat`]: stat(name), [`proc/${pid}/exe`]: `→${program}` })

describe('ClamAV', () => {
  it('tells the age of its signatures itself', () => {
    expect(parseDatabaseHeader(header(25784, 1587038307))).toEqual({ version: '25784', at: 1_587_038_307_000 })
    expect(['', 'ClamAV-VDB:', header(1, 2).replace('VDB', 'XYZ'), header(1, 2).replace(':1:', ':-1:'), 'ClamAV-VDB:a:1:b:c:d:e:f:never', '\0'.repeat(512)].map(parseDatabaseHeader)).toEqual([null, null, null, null, null, null])
    expect([parseVersion('ClamAV 1.0.7/27436/Sun Oct 20 08:35:12 2024\n'), parseVersion('ClamAV 0.103.11\n'), parseVersion('')]).toEqual(['1.0.7', '0.103.11', ''])
  })
  it('guards only when the engine and what looks at each file both run, from where they were installed', () => {
    const [engine, guard] = [{ name: 'clamd', path: '/usr/sbin/clamd' }, { name: 'clamonacc', path: '/usr/sbin/clamonacc' }]
    expect([guarding([engine, guard], '/'), guarding([engine], '/'), guarding([guard], '/'), guarding([], '/')]).toEqual(['on', 'off', 'off', 'off'])
    expect(guarding([{ name: 'clamd', path: '/home/ada/clamd' }, guard], '/')).toBe('off')
    // Whose program can't be seen may be the right one.
    expect(guarding([{ name: 'clamd', path: '' }, guard], '/')).toBe('unknown')
  })
  it('is reported with version, state and signatures, the newer of two databases, wherever they lie', async () => {
    const root = await machine({
      'usr/sbin/clamd': '', 'var/lib/clamav/daily.cvd': header(27000, 1_690_000_000), 'var/lib/clamav/daily.cld': header(27100, 1_700_000_000), 'proc/1/stat': stat('init'),
    })
    const look = linuxAntivirus(root, tools({ clamd: 'ClamAV 1.0.7/27100/x\n' }))
    expect(sections.antivirus.parse(await look())).toEqual({ products: [{ name: 'ClamAV', version: '1.0.7', running: 'off', signaturesAt: 1_700_000_000_000, signaturesVersion: '27100', source: 'clamav' }] })
    const elsewhere = await machine({ 'usr/bin/clamscan': '', 'etc/clamav/freshclam.conf': '# x\nDatabaseDirectory /srv/clamav\n', 'srv/clamav/daily.cld': header(5, 1_600_000_000), ...process(1, 'init', '/sbin/init'), ...process(7, 'clamd', '/usr/sbin/clamd') })
    expect((await linuxAntivirus(elsewhere, tools({}))())?.products).toEqual([{ name: 'ClamAV', running: 'off', signaturesAt: 1_600_000_000_000, signaturesVersion: '5', source: 'clamav' }])
    // Others' processes hidden: it may run.
    expect((await linuxAntivirus(await machine({ 'usr/sbin/clamd': '' }), tools({}))())?.products[0]?.running).toBe('unknown')
  })
})

describe('Defender for Endpoint', () => {
  // As a machine answered, with its names taken out.
  const answer = '{"$type":"getHealthAllResult","appVersion":"101.23062.0010","automaticDefinitionUpdateEnabled":{"displayValue":true,"isManaged":false,"value":true},"definitionsStatus":{"$type":"upToDate"},"definitionsUpdated":"1691587153787","definitionsUpdatedMinutesAgo":20,"definitionsVersion":"1.395.30.0","engineVersion":"1.1.23070.1002","healthIssues":[],"healthy":true,"passiveModeEnabled":{"displayValue":true,"isManaged":false,"value":true},"realTimeProtectionAvailable":true,"realTimeProtectionEnabled":{"displayValue":true,"isManaged":false,"value":false},"realTimeProtectionSubsystem":"fanotify"}'
  it('tells of its health', async () => {
    expect(parseHealth(answer)).toEqual({ name: 'Microsoft Defender for Endpoint', version: '101.23062.0010', running: 'off', signaturesAt: 1_691_587_153_787, signaturesVersion: '1.395.30.0', source: 'defender' })
    expect(parseHealth(answer.replace('"value":false},"realTimeProtectionSubsystem"', '"value":true},"realTimeProtectionSubsystem"'))?.running).toBe('on')
    expect(parseHealth('{"realTimeProtectionEnabled":"yes","definitionsUpdated":"soon"}')).toEqual({ name: 'Microsoft Defender for Endpoint', running: 'unknown', source: 'defender' })
    expect([parseHealth(''), parseHealth('[]'), parseHealth('{"appVersion":7}')]).toEqual([null, null, null])
    expect((await linuxAntivirus(await machine({ 'usr/bin/mdatp': '' }), tools({ mdatp: answer }))())?.products).toHaveLength(1)
    expect((await linuxAntivirus(await machine({ 'usr/bin/mdatp': '' }), tools({}))())?.products[0]?.running).toBe('unknown')
  })
})

describe('a scanner', () => {
  it('that is not known here is not taken for none', async () => {
    expect(await linuxAntivirus(await machine({ x: '' }), tools({}))()).toBeNull()
  })
})
