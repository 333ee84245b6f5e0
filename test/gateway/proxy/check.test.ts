import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it } from 'vitest'
import { checkPolicies } from '../../../gateway/inspect.ts'
import { cleanUp, later } from './gate-under-test.ts'

afterEach(cleanUp)

async function check(text: string) {
  const directory = mkdtempSync(join(tmpdir(), 'check-'))
  later(() => rmSync(directory, { recursive: true }))
  const file = join(directory, 'policies.yaml')
  writeFileSync(file, text)
  const { errors, ...found } = await checkPolicies(file, null, Date.parse('2026-11-25T10:00:00Z'))
  return { ...found, errors: errors.map((error) => error.replace(`${file}:`, '')) }
}

describe('gateway check', () => {
  it('finds nothing to say of the example in docs/', async () => {
    expect(await checkPolicies(fileURLToPath(new URL('../../../docs/policies.yaml', import.meta.url)), null, Date.parse('2026-11-25T10:00:00Z'))).toEqual({ ok: true, errors: [], warnings: [], services: 5 })
  })
  it('says of a file that is not there where an example is', async () => {
    await expect(checkPolicies(join(tmpdir(), 'none', 'policies.yaml'), null, 0)).rejects.toThrow(/There is no file .*docs\/policies\.yaml/)
  })
  it('says where each mistake stands', async () => {
    const { ok, errors } = await check(`services:
  - name: wiki
    protocol: https
    match: [wiki.corp.test]
    paths: [/../x]
    upstream: http://10.0.0.5/wiki
policies:
  - name: staff
    services: [wiki]
    issuer: idp.test
    schedule: {hours: ["9-17"], timeZone: Mars/Base}
    until: tomorrow
    mode: dry
    action: allow
`)
    expect(ok).toBe(false)
    for (const [line, path] of [[5, 'services.0.paths.0'], [6, 'services.0.upstream'], [10, 'policies.0.issuer'], [11, 'policies.0.schedule.hours.0'], [11, 'policies.0.schedule.timeZone'], [12, 'policies.0.until'], [13, 'policies.0.mode']] as const) {
      expect(errors.some((error) => error.startsWith(`${line}:`) && error.includes(` ${path} `)), `${line} ${path}\n${errors.join('\n')}`).toBe(true)
    }
    expect(errors.some((error) => error.includes('must be an https URL'))).toBe(true)
  })
  it('warns of rules that never decide, of rules without posture, and of certificates that can not be read', async () => {
    const { ok, warnings, services } = await check(`listener: {certificates: [{certificateFile: gate.pem, keyFile: gate.key}]}
services: [{name: wiki, protocol: https, match: [wiki.corp.test], upstream: [http://10.0.0.5, http://10.0.0.6]}]
policies:
  - {name: everybody, services: [wiki], action: allow}
  - {name: staff, services: [wiki], tags: {all: [compliant]}, action: allow}
`)
    expect({ ok, services }).toEqual({ ok: true, services: 1 })
    expect(warnings).toEqual([expect.stringMatching(/gate\.pem can not be used/), expect.stringMatching(/"everybody" lets devices/), expect.stringMatching(/"staff" never decides/)])
  })
})
