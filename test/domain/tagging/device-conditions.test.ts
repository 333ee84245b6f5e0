// What each type that the agent answers says of the device: certificates, the registry, processes by their hash.
import { describe, expect, it } from 'vitest'
import type { Observation } from '../../../domain/tagging/condition-type.ts'
import type { Device, InstalledCertificate, RegistryValue } from '../../../domain/tagging/device.ts'
import { readCondition } from '../../../domain/tagging/registry.ts'
import type { Condition } from '../../../protocol/rules.ts'
import { now } from './endpoint-facts.ts'
import { asked } from './examples.ts'

const blind: Device = { fileFacts: () => Promise.resolve('unreadable'), processes: () => Promise.resolve([]) }
async function observe(condition: Condition, device: Device): Promise<Observation> {
  const read = readCondition(condition)
  if (!read.ok || read.type.side !== 'agent') throw new Error(JSON.stringify(read))
  return await read.type.observe(read.params, device, now)
}
const places = (condition: Condition): string[] => {
  const read = readCondition(condition)
  return read.ok ? [] : read.errors.map(({ path, detail }) => `${path.join('/')}: ${detail}`)
}
const day = 86_400_000

describe('a certificate', () => {
  const own: InstalledCertificate = { subject: 'C=DE, O=Example, CN=laptop-7', issuer: 'O=Example, CN=CA 2', notBefore: now - day, notAfter: now + 10 * day, keyUsage: ['digitalSignature', 'clientAuth'], hasPrivateKey: true }
  const holding = (...certificates: InstalledCertificate[]): Device => ({ ...blind, certificates: () => Promise.resolve(certificates) })
  const named = (subject: Record<string, string>, more: Record<string, unknown> = {}) => asked('certificate', { subject, ...more })
  it.each<[string, Condition, InstalledCertificate[], string]>([
    ['is the very one', named({ is: own.subject }), [own], 'true'], ['is another', named({ is: 'CN=laptop-7' }), [own], 'false'], ['is like it', named({ like: '*, CN=laptop-?' }), [own], 'true'], ['is not like it', named({ like: 'CN=laptop-*' }), [own], 'false'],
    ['matches', named({ matches: 'CN=laptop-\\d+$' }), [own], 'true'], ['does not match', named({ matches: '^CN=laptop' }), [own], 'false'], ['is of an issuer', asked('certificate', { issuer: { like: '*CN=CA ?' } }), [own], 'true'],
    ['is of both', named({ like: '*laptop*' }, { issuer: { is: 'x' } }), [own], 'false'], ['has expired', named({ like: '*' }), [{ ...own, notAfter: now }], 'false'], ['is not valid yet', named({ like: '*' }), [{ ...own, notBefore: now + 1 }], 'false'],
    ['is valid for long enough', named({ like: '*' }, { validForSeconds: 864_000 - 1 }), [own], 'true'], ['is not valid for long enough', named({ like: '*' }, { validForSeconds: 864_000 }), [own], 'false'],
    ['may be used for it', named({ like: '*' }, { keyUsage: ['clientAuth', 'digitalSignature'] }), [own], 'true'], ['may not', named({ like: '*' }, { keyUsage: ['keyCertSign'] }), [own], 'false'], ['has no key', named({ like: '*' }, { privateKey: true }), [{ ...own, hasPrivateKey: false }], 'false'],
    ['is the second', named({ like: '*' }), [{ ...own, notAfter: 0 }, own], 'true'], ['is not there', named({ like: '*' }), [], 'false'],
    ['has a name that is too long to be looked at', named({ like: '*x' }), [{ ...own, subject: 'x'.repeat(2_000) }], 'unknown'], ['is among too many', named({ is: 'x' }), Array.from({ length: 1_001 }, () => own), 'unknown'],
  ])('%s', async (_, condition, certificates, value) => { expect((await observe(condition, holding(...certificates))).value).toBe(value) })
  it('is unknown where the agent can not look', async () => { expect((await observe(named({ like: '*' }), blind)).value).toBe('unknown') })
  it('says what it lacks', async () => {
    expect(await observe(named({ like: '*' }), holding({ ...own, notAfter: now }))).toEqual({ value: 'false', seen: '"C=DE, O=Example, CN=laptop-7" has expired' })
  })
  it('is refused with its place when its name can not be matched, is a bomb, or is none', () => {
    expect(places(asked('certificate'))).toEqual(['subject: name a subject or an issuer'])
    expect(places(named({}))).toEqual(['subject: name one of is, like and matches'])
    expect(places(named({ matches: '(' }))).toEqual([expect.stringMatching(/^subject\/matches: no pattern of RE2: .*missing closing/)])
    expect(places(named({ matches: '(?=x)' }))).toEqual([expect.stringContaining('subject/matches: no pattern of RE2')])
    for (const bomb of ['(a{1000}){1000}', '((a{10}){10}){10}', `(${'x?'.repeat(200)}){9}`]) expect(places(named({ matches: bomb })), bomb).toEqual([expect.stringMatching(/^subject\/matches: (no pattern of RE2|the pattern is too large)/)])
    expect(places(named({ matches: 'a'.repeat(513) }))).toEqual([expect.stringContaining('subject/matches: ')])
  })
  it('is looked for in a time that grows with the text alone', async () => {
    const long = { ...own, subject: `${'a'.repeat(1_000)}b` }
    const before = process.cpuUsage()
    for (const matches of ['(a+)+$', '(a|a)*$', '(.*a){12}$']) await observe(named({ matches }), holding(long))
    await observe(named({ like: `${'*a'.repeat(200)}c` }), holding(long))
    expect(process.cpuUsage(before).user / 1_000).toBeLessThan(1_000)
  })
})

describe('the registry', () => {
  const key = 'HKEY_LOCAL_MACHINE\\SOFTWARE\\Example'
  const holding = (found: RegistryValue): Device => ({ ...blind, registryValue: () => Promise.resolve(found) })
  const value = (kind: 'string' | 'number', text: string) => holding({ exists: true, kind, value: text })
  it.each<[string, Record<string, unknown>, Device, string]>([
    ['has the key', {}, holding({ exists: true, kind: 'string', value: '' }), 'true'], ['has not', {}, holding({ exists: false, missing: 'key' }), 'false'], ['can not be read', {}, holding('unreadable'), 'unknown'], ['can not be looked at', {}, blind, 'unknown'],
    ['has the value', { name: 'a' }, value('string', 'x'), 'true'], ['is as wanted', { name: 'a', comparator: '=', value: 'x' }, value('string', 'x'), 'true'], ['differs in case', { name: 'a', comparator: '=', value: 'x' }, value('string', 'X'), 'false'],
    ['contains it', { name: 'a', comparator: 'contains', value: 'b' }, value('string', 'abc'), 'true'], ['is above', { name: 'a', comparator: '>', value: '9' }, value('number', '10'), 'true'], ['is not', { name: 'a', comparator: '<', value: '9' }, value('number', '10'), 'false'],
    ['is no number', { name: 'a', comparator: '>=', value: '9' }, value('string', 'ten'), 'unknown'], ['holds a number beyond what doubles tell apart', { name: 'a', comparator: '>', value: '9007199254740992' }, value('number', '9007199254740993'), 'true'],
  ])('%s', async (_, params, device, expected) => { expect((await observe(asked('registry-key', { key, ...params }), device)).value).toBe(expected) })
  it('is refused with its place where it is none', () => {
    expect(places(asked('registry-key', { key: 'SOFTWARE\\x' }))).toEqual([expect.stringContaining('key: begins with a hive')])
    expect(places(asked('registry-key', { key, comparator: '=', value: 'x' }))).toEqual(['name: name the value to compare'])
    expect(places(asked('registry-key', { key, name: 'a', comparator: '>' }))).toEqual(expect.arrayContaining(['value: a comparator and a value go together']))
    for (const hidden of ['\u001b[2J', '\u202e', '\ud800']) expect(places(asked('registry-key', { key, name: `a${hidden}`, comparator: '=', value: hidden }))).toEqual(['name: control characters are not allowed', 'value: control characters are not allowed'])
    expect(places(asked('registry-key', { key, name: 'a', comparator: '=', value: 'one\ntwo' }))).toEqual([])
    expect(places(asked('registry-key', { key, nmae: 'a' }))).toEqual(['nmae: is not known here; registry-key takes key, name, comparator, value'])
    expect(places(asked('registry-key', { key, name: 'a', comparator: '>', value: 'x' }))).toEqual(['value: is compared as a number, and is none'])
  })
})

describe('a process by the hash of its program', () => {
  const [good, bad] = ['a'.repeat(64), 'b'.repeat(64)]
  const running = (...hashes: (string | null | undefined)[]): Device => ({ ...blind, processes: () => Promise.resolve(hashes.map((hash) => ({ name: 'edr', path: '/opt/edr', ...(hash === undefined ? {} : { sha256: () => Promise.resolve(hash) }) }))) })
  it.each<[string, Device, string]>([['is the one', running(good), 'true'], ['is another', running(bad), 'false'], ['is one of two', running(bad, good), 'true'], ['can not be read', running(bad, null), 'unknown'], ['is not hashed here', running(undefined), 'unknown'], ['does not run', running(), 'false'], ['is among too many', running(...Array.from({ length: 17 }, () => bad)), 'unknown']])('%s', async (_, device, value) => {
    for (const path of [{}, { path: '/opt/edr' }]) expect((await observe(asked('running-process', { name: 'edr', sha256: good, ...path }), device)).value).toBe(value)
  })
})
