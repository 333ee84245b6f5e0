import { afterEach, describe, expect, it, vi } from 'vitest'
import type { Service } from '../../../domain/access/service.ts'
import { indexServices, lookUpService, type ServiceIndex } from '../../../domain/access/service-index.ts'
import { compile } from './access-under-test.ts'

afterEach(() => vi.restoreAllMocks())

const servicesOf = (entries: string): ServiceIndex => compile(`services: [${entries}]\npolicies: []`).index
const web = (name: string, match: string, paths = "['/']", more = '') => `{name: ${name}, protocol: https, match: [${match}], paths: ${paths}, upstream: http://u.test${more}}`
const find = (index: ServiceIndex, host: string, path = '/', port = 443, protocol: 'tcp' | 'https' = 'https') => {
  const found = lookUpService(index, protocol, host, port, path)
  return found.kind === 'service' ? found.service.name : found.kind
}

describe('the service for a destination', () => {
  it('is the most exact: host before suffix before range, the longer before the shorter', () => {
    const index = servicesOf(['{name: wide, protocol: tcp, match: [10.0.0.0/8, "*.test"], ports: [1-65535]}', '{name: narrow, protocol: tcp, match: [10.1.0.0/16, "*.apps.test"], ports: [1-65535]}',
      '{name: one, protocol: tcp, match: [10.1.2.3, x.apps.test], ports: [22]}', '{name: six, protocol: tcp, match: ["fd00::/8"], ports: [22, "8000-8100"]}', '{name: all, protocol: tcp, match: [0.0.0.0/0], ports: [9]}'].join())
    const tcp = (host: string, port = 22) => find(index, host, '/', port, 'tcp')
    expect([tcp('10.9.9.9'), tcp('10.1.9.9'), tcp('10.1.2.3'), tcp('10.1.2.3', 23)]).toEqual(['wide', 'narrow', 'one', 'narrow'])
    expect([tcp('y.test'), tcp('y.apps.test'), tcp('x.apps.test'), tcp('x.apps.test', 23), tcp('test')]).toEqual(['wide', 'narrow', 'one', 'narrow', 'none'])
    expect([tcp('fd00::1'), tcp('[fdff::2]', 8100), tcp('fd00::1', 8101), tcp('fe00::1'), tcp('::ffff:10.1.2.3')]).toEqual(['six', 'six', 'none', 'none', 'one'])
    expect([tcp('11.0.0.1', 9), tcp('11.0.0.1'), tcp('255.255.255.255', 9)]).toEqual(['all', 'none', 'all'])
  })

  it('is told by the longest path, by whole segments', () => {
    const index = servicesOf([web('root', 'h.test'), web('wiki', 'h.test', "['/wiki/']"), web('deep', 'h.test', "['/wiki/a/b', /other]"), web('only', 'o.test', "['/app']")].join())
    const at = (path: string) => find(index, 'h.test', path)
    expect(['/', '/wiki', '/wiki/', '/wiki/x', '/wikipedia', '/wiki/a', '/wiki/a/b', '/wiki/a/b/c', '/other/x'].map(at)).toEqual(['root', 'wiki', 'wiki', 'wiki', 'root', 'wiki', 'deep', 'deep', 'deep'])
    expect([find(index, 'o.test', '/app/x'), find(index, 'o.test', '/'), find(index, 'o.test', '/application')]).toEqual(['only', 'none', 'none'])
  })

  it('is none when the path can be read as one of another service', () => {
    const index = servicesOf([web('root', 'h.test'), web('admin', 'h.test', '[/admin]'), web('public', 'h.test', '[/public]'), web('free', 'f.test')].join())
    for (const path of ['/public/../admin', '/public/%2e%2e/admin', '/public/..%2fadmin', '/public/%252e%252e%252fadmin', '/%61dmin', '/Admin', '//admin', '/admin;x=1/y', '/public/..;/admin', '\\admin', '/public\\..\\admin', '/public/./x', '/public/%00',
      '/public/../admin/%252e%252e/public/x', '/%2561dmin', '/public%2f..%2fadmin', `/%${'25'.repeat(9)}2e`]) expect(find(index, 'h.test', path), path).toBe('ambiguous-path')
    for (const [path, name] of [['/public/A%20b;v=1', 'public'], ['/public//x', 'public'], ['/public/a%2Fb', 'public'], ['/x..y/z', 'root'], ['/administrator', 'root'], ['/x/Admin', 'root'], ['/x/admin;y', 'root']]) expect(find(index, 'h.test', path), path).toBe(name)
    // Where one service has every path there is nothing to mistake.
    expect(find(index, 'f.test', '/a/../%2e%2e/b')).toBe('free')
  })

  it('is found with the same work among sixty services and among nine thousand', () => {
    const touched: string[] = []
    const watched = (service: Service) => new Proxy(service, { get: (target, key) => {
      touched.push(String(key))
      return Reflect.get(target, key) as unknown
    } })
    const work = (count: number) => {
      const [one, two, three] = compile(`services: [{name: a, protocol: tcp, match: [h.test], ports: [22]}, {name: b, protocol: tcp, match: ['*.z.test'], ports: [22]}, {name: c, protocol: tcp, match: [10.0.0.0/24], ports: [22]}]\npolicies: []`).services
      if (one === undefined || two === undefined || three === undefined) throw new Error('there are three')
      const range = three.ranges[0]?.[0]
      if (range === undefined) throw new Error('there is a range')
      const others = Array.from({ length: count }, (_, n): Service[] => [
        { ...one, name: `a${n}`, hosts: [`h${n}.test`, 'shared.test'], ports: [[n + 1, n + 1]] }, { ...two, name: `b${n}`, suffixes: [`.z${n}.test`] }, { ...three, name: `c${n}`, ranges: [[range, 24]] },
      ]).flat()
      const index = indexServices([...others, one, two, three].map(watched))
      touched.length = 0
      const gets = vi.spyOn(Map.prototype, 'get')
      const found = ['h.test', 'x.z.test', '10.0.0.9', 'shared.test', 'nowhere.test', '10.0.1.9'].map((host) => lookUpService(index, 'tcp', host, 22, '/').kind)
      const calls = gets.mock.calls.length
      gets.mockRestore()
      expect(found).toEqual(['service', 'service', 'service', count > 21 ? 'service' : 'none', 'none', 'none'])
      return { calls, touched: touched.length }
    }
    const few = work(22)
    expect(work(3_000)).toEqual(few)
    expect(few.touched).toBe(0)
  })
})
