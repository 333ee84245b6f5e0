// Matching of targets against a profile's destinations.
import { describe, expect, it } from 'vitest'
import { compileDestinations } from '../../../agent/tunnel/destinations.ts'
import { canonicalHost, parseAuthority } from '../../../agent/tunnel/target.ts'

const gateway = (n: number) => `SPGW00000000000${n}`
const find = compileDestinations([
  { match: 'wiki.corp.test', ports: [443], gateway: gateway(1) },
  { match: '*.corp.test', ports: [{ from: 80, to: 443 }], gateway: gateway(2) },
  { match: '*.lab.corp.test', ports: [443], gateway: gateway(3) },
  { match: '10.0.0.0/8', ports: [22], gateway: gateway(4) },
  { match: '10.1.0.0/15', ports: [22], gateway: gateway(5) },
  { match: 'fd00:9::/32', ports: [22], gateway: gateway(6) },
  { match: '0.0.0.0/0', ports: [5000], gateway: gateway(7) },
])
const at = (text: string) => {
  const target = parseAuthority(text)
  const gateways = target && find(target)
  return gateways === null ? null : gateways.join()
}

describe('destinations', () => {
  it('prefers the exact name, then the longest suffix', () => {
    expect(at('wiki.corp.test:443')).toBe(gateway(1))
    expect(at('x.lab.corp.test:443')).toBe(gateway(3))
    expect(at('a.b.corp.test:443')).toBe(gateway(2))
  })
  it('falls to a less exact rule when the ports do not fit, and to none outside all ports', () => {
    expect(at('wiki.corp.test:80')).toBe(gateway(2))
    expect(at('x.lab.corp.test:80')).toBe(gateway(2))
    expect(at('wiki.corp.test:444')).toBeNull()
  })
  it('does not take the suffix itself, nor a name that merely ends in it', () => {
    expect(at('corp.test:443')).toBeNull()
    expect(at('evilcorp.test:443')).toBeNull()
  })
  it('takes addresses by the longest prefix, in IPv4 and IPv6', () => {
    expect(at('10.0.255.1:22')).toBe(gateway(5))
    expect(at('10.1.2.3:22')).toBe(gateway(5))
    expect(at('10.2.0.1:22')).toBe(gateway(4))
    expect(at('11.0.0.1:22')).toBeNull()
    expect(at('[fd00:9:1::5]:22')).toBe(gateway(6))
    expect(at('[fd00:a::5]:22')).toBeNull()
    expect(at('192.0.2.1:5000')).toBe(gateway(7))
  })
  it('sees through other spellings of the same name and address', () => {
    expect(at('WIKI.Corp.Test.:443')).toBe(gateway(1))
    expect(at('[::ffff:10.1.2.3]:22')).toBe(gateway(5))
    expect(at('0x0a010203:22')).toBe(gateway(5))
    expect(at('10.66051:22')).toBe(gateway(5))
  })
  it('takes no target that is neither name nor address', () => {
    for (const text of ['', 'a', ':443', 'a:0', 'a:65536', 'a b:1', 'a\r\nx:1', '[fe80::1%eth0]:22', 'http://a:1', '-a.test:1', `${'a'.repeat(300)}:1`]) expect(parseAuthority(text), text).toBeNull()
    expect(canonicalHost('_sip.corp.test')).toBe('_sip.corp.test')
  })
})
