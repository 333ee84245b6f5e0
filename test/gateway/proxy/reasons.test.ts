import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingHttpHeaders } from 'node:http2'
import { createServer as createTcpServer } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import type { EndpointRecord } from '../../../domain/access/endpoint-record.ts'
import type { Origin } from '../../../domain/access/geo.ts'
import { createAuthority } from '../../../identity/authority.ts'
import { reasons, type Reason } from '../../../protocol/decisions.ts'
import { BAD_TAG, OK_TAG, OTHER, UID, ask, cleanUp, connectTo, heldClock, issue, later, listen, openHttp2, record, startGate, until, userOf, type Credential, type Gate } from './gate-under-test.ts'

afterEach(cleanUp)

// A Wednesday, 10:00 UTC; certificates are judged by the real clock too.
const NOW = Math.floor(Date.now() / 604_800_000) * 604_800_000 + 6 * 86_400_000 + 36_000_000 - 604_800_000
const iso = (ms: number) => new Date(ms).toISOString()

const file = (upstream: number) => `
noCertificate: {mode: unmanageable}
services:
  - {name: web, protocol: https, match: [web.test], upstream: http://127.0.0.1:${upstream}, requireOnline: true}
  - {name: admin, protocol: https, match: [paths.test], paths: [/admin], upstream: http://127.0.0.1:${upstream}}
  - {name: closed, protocol: https, match: [closed.test], upstream: http://127.0.0.1:1}
  - {name: lost, protocol: https, match: [lost.test], upstream: http://nowhere.test:80}
  - {name: inside, protocol: https, match: [inside.test], upstream: http://inside.test:80}
  - {name: shut, protocol: https, match: [shut.test], upstream: http://127.0.0.1:${upstream}}
  - {name: denied, protocol: https, match: [denied.test], upstream: http://127.0.0.1:${upstream}}
  - {name: fabric, protocol: https, match: [fabric.test], upstream: http://127.0.0.1:${upstream}}
  - {name: owned, protocol: https, match: [owned.test], upstream: http://127.0.0.1:${upstream}}
  - {name: near, protocol: https, match: [near.test], upstream: http://127.0.0.1:${upstream}}
  - {name: personal, protocol: https, match: [personal.test], upstream: http://127.0.0.1:${upstream}}
  - {name: nightly, protocol: https, match: [nightly.test], upstream: http://127.0.0.1:${upstream}}
  - {name: over, protocol: https, match: [over.test], upstream: http://127.0.0.1:${upstream}}
policies:
  - {name: staff, services: [web, admin, closed, lost, inside], tags: {all: [compliant], none: [infected]}, action: allow}
  - {name: no, services: [denied], action: deny}
  - {name: near, services: [fabric], device: {onFabric: true}, action: allow}
  - {name: own, services: [owned], device: {ownership: [corporate]}, action: allow}
  - {name: abroad, services: [near], geo: {countries: [DE]}, action: allow}
  - {name: people, services: [personal], users: [alice@corp.test], action: allow}
  - {name: night, services: [nightly], schedule: {hours: ["22:00-06:00"], timeZone: UTC}, action: allow}
  - {name: guest, services: [over], until: "${iso(NOW - 1_000)}", action: allow}
`
interface Case {
  /** The device's record, where it is not the usual one. */
  readonly is?: Partial<EndpointRecord>
  readonly who?: 'nobody' | 'foreign' | 'expired' | 'wrong-purpose' | 'unlisted' | 'unknown-device'
  readonly at?: string
  readonly path?: string
  readonly userAgent?: string
  readonly status?: number
  readonly before?: (gate: Gate) => void | Promise<void>
  readonly limits?: { readonly sessions: number }
  readonly from?: Origin
  /** Ends a session that was let in. */
  readonly ends?: (gate: Gate) => Promise<void>
  /** What a session is told that it opened by a tunnel. */
  readonly tells?: (gate: Gate) => Promise<string>
}
const tags = (...borne: string[]) => new Map(borne.map((tag) => [tag, { validUntil: null }]))
const phone = 'Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X)'

/** Each reason there is, and what makes the gate give it. The type leaves none out. */
const cases: Record<Reason, Case> = {
  'allowed': { status: 200 },
  'no-certificate': { who: 'nobody', userAgent: phone },
  'no-certificate-manageable': { who: 'nobody', userAgent: 'Mozilla/5.0 (X11; Linux x86_64)' },
  'certificate-invalid': { who: 'foreign' },
  'certificate-expired': { who: 'expired' },
  'certificate-wrong-purpose': { who: 'wrong-purpose' },
  'certificate-revoked': { who: 'unlisted' },
  // The EMS does not answer, and the device is known by other certificates: nothing says yet that this one is revoked.
  'certificate-unknown': { who: 'unlisted', before: (gate) => gate.silence() },
  'endpoint-unknown': { who: 'unknown-device' },
  'endpoint-deregistered': { is: { registered: false } },
  'endpoint-quarantined': { is: { quarantined: true } },
  'service-unknown': { at: 'undeclared.test' },
  'path-ambiguous': { at: 'paths.test', path: '/x/../admin', status: 400 },
  'portal-error': { path: '/.well-known/sallyport/nothing', status: 404 },
  'address-refused': { at: 'inside.test' },
  'name-not-resolved': { at: 'lost.test', status: 502 },
  'upstream-unreachable': { at: 'closed.test', status: 502 },
  'ssh-host-key': { tells: async (gate) => {
    const host = createTcpServer((socket) => socket.on('error', () => socket.destroy()).end('SSH-2.0-Host\r\nand no packet of SSH'))
    later(() => host.close())
    gate.putPolicies(`services: [{name: shell, protocol: tcp, match: [shell.test], ports: [22], upstream: "127.0.0.1:${await listen(host)}", ssh: {hostKeys: ["SHA256:${'A'.repeat(43)}"]}}]\npolicies: [{name: all, services: [shell], action: allow}]`)
    const { stream } = await connectTo(openHttp2(gate, gate.agent), 'shell.test:22')
    const told = once(stream, 'trailers') as Promise<[IncomingHttpHeaders]>
    stream.resume()
    stream.write('SSH-2.0-Client\r\n')
    return decodeURIComponent(String((await told)[0]['sallyport-denial']))
  } },
  'no-policy-matched': { at: 'shut.test' },
  'denied-by-policy': { at: 'denied.test' },
  'denied-by-tag': { is: { tags: tags(OK_TAG, BAD_TAG) } },
  'tag-missing': { is: { tags: tags() } },
  'tag-unknown': { is: { tags: tags(), unknown: new Set([OK_TAG]) } },
  'fabric-mismatch': { at: 'fabric.test' },
  'ownership-unknown': { at: 'owned.test' },
  'ownership-mismatch': { at: 'owned.test', is: { ownership: 'personal' } },
  'country-unknown': { at: 'near.test' },
  'country-mismatch': { at: 'near.test', from: 'FR' },
  'user-unverified': { at: 'personal.test' },
  'user-mismatch': { at: 'personal.test', is: { user: userOf('bob@corp.test') } },
  'outside-schedule': { at: 'nightly.test' },
  'deadline-passed': { at: 'over.test' },
  'endpoint-offline': { is: { online: false } },
  'snapshot-missing': { before: (gate) => gate.change({ whole: true, endpoints: new Map(), currentAt: null }, 'all') },
  'snapshot-stale': { before: (gate) => gate.change({ currentAt: NOW - 180_000 }, new Set()) },
  'overloaded': { limits: { sessions: 0 }, status: 503 },
  'gateway-stopping': { ends: (gate) => gate.proxy.drain(0) },
}

describe('the gate gives each reason for real', () => {
  for (const [reason, { is, who, at = 'web.test', path = '/', userAgent, status = 403, before, limits, from = 'unknown', ends, tells }] of Object.entries(cases) as [Reason, Case][]) {
    it(`${reasons[reason]} ${reason}`, async () => {
      const upstream = createServer((_request, response) => void (ends === undefined ? response.end('ok') : response.write('begun')))
      later(() => {
        upstream.closeAllConnections()
        upstream.close()
      })
      const resolve = async (host: string) => {
        if (host !== 'inside.test') throw new Error(`ENOTFOUND ${host}`)
        return ['169.254.169.254']
      }
      const gate = await startGate(file(await listen(upstream)), { ...heldClock(NOW), resolve, originOf: () => from, ...(limits === undefined ? {} : { limits }) })
      const others: Record<NonNullable<Case['who']>, () => Promise<Credential | null>> = {
        'nobody': async () => null,
        'foreign': async () => issue(await createAuthority({ name: 'Other CA', now: NOW }), UID, 'browser', NOW),
        'expired': () => issue(gate.authority, UID, 'browser', NOW - 60 * 86_400_000),
        'wrong-purpose': () => issue(gate.authority, UID, 'signing', NOW),
        'unlisted': () => issue(gate.authority, UID, 'browser', NOW),
        'unknown-device': () => issue(gate.authority, OTHER, 'browser', NOW),
      }
      const credential = who === undefined ? gate.browser : await others[who]()
      if (is !== undefined) gate.change({ endpoints: new Map([[UID, record(UID, [gate.agent, gate.browser], is)]]) })
      await before?.(gate)
      if (tells !== undefined) {
        const told = JSON.parse(await tells(gate)) as { decision: string }
        expect(told).toMatchObject({ reason, code: reasons[reason] })
        expect(await gate.audit.find(told.decision)).toMatchObject({ allowed: false, reason, event: 'recheck' })
        expect(await gate.metrics.text()).toContain(`sallyport_decisions_total{reason="${reason}",event="recheck"} 1`)
        return
      }
      const answer = await ask(openHttp2(gate, credential), { ':method': 'GET', ':path': path, ':authority': at, ':scheme': 'https', ...(userAgent === undefined ? {} : { 'user-agent': userAgent }) })
      if (ends !== undefined) {
        await ends(gate)
        await until(async () => (await gate.metrics.text()).includes(`sallyport_decisions_total{reason="${reason}",event="recheck"} 1`))
        await until(() => answer.stream.closed)
        expect(answer.stream.rstCode).not.toBe(0)
        return
      }
      const body = await answer.body()
      expect({ status: answer.status, body }).toMatchObject({ status })
      if (reason === 'allowed') return
      const told = JSON.parse(body) as { decision: string }
      expect(told).toMatchObject({ reason, code: reasons[reason], mend: expect.stringMatching(/\w/) as string })
      expect(String(answer.headers['proxy-status'])).toContain(`${reasons[reason]} ${reason} ${told.decision}`)
      expect(await gate.audit.find(told.decision)).toMatchObject({ allowed: false, reason })
      expect(await gate.metrics.text()).toContain(`sallyport_decisions_total{reason="${reason}",event="decide"} 1`)
    })
  }
})
