import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import type { Origin } from '../../../domain/access/geo.ts'
import { checkPolicies } from '../../../gateway/inspect.ts'
import { createCountries } from '../../../gateway/proxy/countries.ts'
import { openPolicyFile } from '../../../gateway/proxy/policy-store.ts'
import { silentLog } from '../../../node/logging.ts'
import type { Decision } from '../../../protocol/decisions.ts'
import { cleanUp, connectTo, heldClock, later, openHttp2, startEcho, startGate, until } from './gate-under-test.ts'
import { writeMmdb } from './mmdb.ts'

afterEach(cleanUp)

const LOOK = 10_000
const ranges = { '81.2.69.0/24': { country: { iso_code: 'GB', names: { en: 'United Kingdom' } }, registered_country: { iso_code: 'US' } }, '2a02:d000::/24': { country_code: 'DE' }, '5.44.0.0/16': { country: 'FR' }, '9.9.9.0/24': { continent: 'Europe' }, '9.9.8.0/24': { country: 'UK' } }

function directory(): string {
  const made = mkdtempSync(join(tmpdir(), 'countries-'))
  later(() => rmSync(made, { recursive: true }))
  return made
}
function logged() {
  const events: string[] = []
  const note = (fields: unknown) => void events.push((fields as { event: string }).event)
  return { events, log: Object.assign(silentLog(), { error: note, info: note, fatal: note }) }
}

describe('the database of countries', () => {
  it('tells the country of an address, by what each kind of file calls it, and guesses none', async () => {
    const file = join(directory(), 'country.mmdb')
    writeFileSync(file, writeMmdb(ranges))
    const countries = createCountries({ timers: heldClock(0).timers, log: silentLog() })
    later(() => countries.close())
    await countries.follow(file)
    const told: Record<string, Origin> = {
      '81.2.69.142:5000': 'GB', '::ffff:81.2.69.142:5000': 'GB', '2a02:d000::1:443': 'DE', '5.44.1.2:1': 'FR', '81.2.70.1:5000': 'unknown', '9.9.9.9:1': 'unknown', '9.9.8.8:1': 'unknown', '2001:4860::8:1': 'unknown',
      '127.0.0.1:1': 'nowhere', '10.1.2.3:1': 'nowhere', '192.168.1.1:1': 'nowhere', '100.64.0.1:1': 'nowhere', '169.254.1.1:1': 'nowhere', 'fd00::1:1': 'nowhere', 'fe80::1:1': 'nowhere', '::ffff:10.0.0.1:1': 'nowhere', 'unknown:0': 'unknown', '': 'unknown',
    }
    for (const [source, origin] of Object.entries(told)) expect([source, countries.originOf(source)]).toEqual([source, origin])
  })
  it('is read again when it changes, kept when it is damaged, and nothing is known before there is one', async () => {
    const [file, clock, { events, log }] = [join(directory(), 'country.mmdb'), heldClock(0), logged()]
    const countries = createCountries({ timers: clock.timers, log })
    later(() => countries.close())
    let changes = 0
    countries.onChange(() => changes++)
    await countries.follow(file)
    expect([countries.originOf('81.2.69.142:1'), events]).toEqual(['unknown', ['geo-database-unreadable']])
    const put = async (bytes: Buffer, expected: string) => {
      const seen = events.length
      writeFileSync(`${file}.new`, bytes)
      renameSync(`${file}.new`, file)
      clock.advance(LOOK)
      await until(() => events.length > seen)
      expect(events.at(-1)).toBe(expected)
    }
    await put(writeMmdb(ranges), 'geo-database-loaded')
    await until(() => changes === 1)
    expect(countries.originOf('81.2.69.142:1')).toBe('GB')
    await put(writeMmdb({ '81.2.69.0/24': { country_code: 'IE' } }), 'geo-database-loaded')
    await until(() => changes === 2)
    expect(countries.originOf('81.2.69.142:1')).toBe('IE')
    for (const damaged of [Buffer.from('<html>quota exceeded</html>'), writeMmdb(ranges).subarray(0, 500)]) {
      writeFileSync(file, damaged)
      clock.advance(LOOK)
      await until(() => events.at(-1) === 'geo-database-unreadable')
      expect([countries.originOf('81.2.69.142:1'), changes]).toEqual(['IE', 2])
    }
    await countries.follow(null)
    expect(countries.originOf('81.2.69.142:1')).toBe('unknown')
  })
  it('is there when the policies that name it are: a path beside them', async () => {
    const place = directory()
    const path = join(place, 'policies.yaml')
    const text = (geo: string) => `${geo}\nservices: [{name: s, protocol: tcp, match: [h.test], ports: [22]}]\npolicies: [{name: p, services: [s], tags: {all: [a]}, geo: {countries: [GB]}, action: allow}]\n`
    writeFileSync(path, text(''))
    const store = await openPolicyFile({ path, log: silentLog() })
    later(() => store.close())
    expect([store.current().geo, store.originOf('81.2.69.142:1')]).toEqual([{ databaseFile: null, asked: true }, 'unknown'])
    writeFileSync(join(place, 'country.mmdb'), writeMmdb(ranges))
    const known = new Promise<Origin>((resolve) => store.onChange(() => resolve(store.originOf('81.2.69.142:1'))))
    writeFileSync(path, text('geo: {databaseFile: country.mmdb}'))
    expect(await known).toBe('GB')
    expect((await checkPolicies(path, null, 0)).warnings).toEqual([])
    rmSync(join(place, 'country.mmdb'))
    expect((await checkPolicies(path, null, 0)).warnings).toEqual([expect.stringMatching(/^The database of countries \/.*country\.mmdb can not be used: ENOENT/)])
  })
})

it('a session is cut when the database says another country, and the decision has it', async () => {
  const echo = await startEcho()
  later(echo.close)
  let origin: Origin = 'DE'
  const text = `services: [{name: ledger, protocol: tcp, match: [127.0.0.1], ports: [${echo.port}], addresses: [127.0.0.1]}]\npolicies: [{name: p, services: [ledger], geo: {countries: [DE]}, action: allow}]`
  const gate = await startGate(text, { originOf: () => origin })
  const { stream, status } = await connectTo(openHttp2(gate, gate.agent), `127.0.0.1:${echo.port}`)
  expect(status).toBe(200)
  const trailers = new Promise<Record<string, string>>((resolve) => stream.once('trailers', resolve))
  stream.resume()
  origin = 'FR'
  gate.putPolicies(text)
  const denial = JSON.parse(decodeURIComponent((await trailers)['sallyport-denial'] ?? '')) as { reason: string; decision: string }
  expect(denial.reason).toBe('country-mismatch')
  expect(await gate.audit.find(denial.decision) as Decision).toMatchObject({ allowed: false, code: '061', country: 'FR' })
})
