// Services for UDP: how they are declared, checked by editors, found and linted.
import Ajv from 'ajv/dist/2020.js'
import { parse } from 'yaml'
import { describe, expect, it } from 'vitest'
import { lintPolicies } from '../../../domain/access/lint-policies.ts'
import { policyFileSchema } from '../../../domain/access/policy-file.ts'
import { readPolicies } from '../../../domain/access/read-policies.ts'
import { lookUpService } from '../../../domain/access/service-index.ts'
import { NOW, compile } from './access-under-test.ts'

const one = (service: string) => `services: [${service}]\npolicies: [{name: p, services: [s], tags: {all: [a]}, action: allow}]`

describe('a service for UDP', () => {
  it('is found by UDP alone, one for both by both, and each ends idle sessions in its own time', () => {
    const { index, services } = compile(one('{name: s, protocol: tcp+udp, match: [dns.test], ports: [53], idleSeconds: 20}, {name: voice, protocol: udp, match: [voice.test], ports: ["5000-5100"]}'))
    const found = (protocol: 'tcp' | 'udp' | 'https', host: string, port: number) => lookUpService(index, protocol, host, port, '/').kind === 'service'
    expect([found('tcp', 'dns.test', 53), found('udp', 'dns.test', 53), found('https', 'dns.test', 53)]).toEqual([true, true, false])
    expect([found('tcp', 'voice.test', 5050), found('udp', 'voice.test', 5050), found('udp', 'voice.test', 5101)]).toEqual([false, true, false])
    expect(services.map(({ name, protocol, idleMs }) => ({ name, protocol, idleMs }))).toEqual([{ name: 's', protocol: 'tcp', idleMs: Infinity }, { name: 's', protocol: 'udp', idleMs: 20_000 }, { name: 'voice', protocol: 'udp', idleMs: 120_000 }])
  })

  const wrong = ['{name: s, protocol: udp, match: [h.test]}', '{name: s, protocol: udp, match: [h.test], ports: [53], idleSeconds: 0}', '{name: s, protocol: udp, match: [h.test], ports: [53], traffic: bulk}',
    '{name: s, protocol: tcp, match: [h.test], ports: [53], idleSeconds: 20}', '{name: s, protocol: udp, match: [h.test], ports: [53], paths: [/x]}', '{name: s, protocol: "udp+tcp", match: [h.test], ports: [53]}']
  it('is checked alike by the gateway and by the schema for editors', () => {
    const check = new Ajv({ strict: false, validateFormats: false }).compile(policyFileSchema() as object)
    const right = one('{name: s, protocol: udp, match: ["*.h.test", 10.0.0.0/8], ports: [53, "5000-5100"], upstream: "10.0.0.5:53", idleSeconds: 600, addresses: [127.0.0.1], requireOnline: true, stale: {then: hold, holdFor: 60}}')
    expect([readPolicies(right).ok, check(parse(right))]).toEqual([true, true])
    for (const service of wrong) expect([service, readPolicies(one(service)).ok, check(parse(one(service)))]).toEqual([service, false, false])
  })
  it('is told apart from TCP by the lint', () => {
    const lint = (services: string) => lintPolicies(compile(`services: [${services}]\npolicies: [{name: p, services: [s, t], tags: {all: [a]}, action: allow}]`), { tagsByName: null, now: NOW })
    expect(lint('{name: s, protocol: tcp, match: [h.test], ports: [53]}, {name: t, protocol: udp, match: [h.test], ports: [53]}')).toEqual([])
    expect(lint('{name: s, protocol: udp, match: [h.test], ports: [53]}, {name: t, protocol: tcp+udp, match: [h.test], ports: [53]}')).toEqual(['The service "t" is never found at h.test:53 by UDP: "s" above it is declared there.'])
  })
})
