// How long one access decision takes, by itself: 1,000 policies on one service, 100,000 endpoints and their users, each decision timed. No network, no log.
import { decide, type AccessRequest } from '../domain/access/decide.ts'
import type { EndpointRecord } from '../domain/access/endpoint-record.ts'
import type { Policies } from '../domain/access/policies.ts'
import { readPolicies } from '../domain/access/read-policies.ts'
import { emptySnapshot, nextSnapshot, type Snapshot } from '../domain/access/snapshot.ts'
import { sharedTags, sharedUser } from '../gateway/fabric/shared-parts.ts'
import { alone, percentile, table, type Figure, type Progress } from './figures.ts'

const BENCH = 'decision'
const NOW = 1_800_000_000_000
const POLICIES = 1_000
const SERVICES = 500
/** Policies ask for pairs of these: 46 · 45 / 2 pairs are enough for 1,000, and each tag stands in some forty policies. */
const PAIRED = 46
/** What every device bears beside its pair. */
const COMMON = ['managed', 'disk-encrypted', 'firewall-on', 'patched', 'antivirus-on', 'screen-lock']
/** Groups of every user, beside his team. */
const COMPANY = ['staff', 'wiki', 'mail', 'vpn', 'printers', 'canteen', 'building-7', 'payroll', 'newsletter']
const ISSUER = 'https://idp.corp.test'

const pairs = Array.from({ length: PAIRED }, (_, a) => Array.from({ length: PAIRED - a - 1 }, (_, b) => [`group-${a}`, `group-${a + b + 1}`] as const)).flat().slice(0, POLICIES)
const names = [...COMMON, 'infected', ...Array.from({ length: PAIRED }, (_, n) => `group-${n}`)]
const uidOf = (n: number): string => `${(n * 2_654_435_761 % 0xffff_ffff).toString(16).padStart(8, '0')}${n.toString(16).padStart(24, '0')}`
const serialOf = (n: number): string => n.toString(16).toUpperCase().padStart(40, '4')

/** Of ten devices nine are let in, each by the policy of this number. */
const policyOf = (n: number): number | null => (n % 10 === 9 ? null : n % POLICIES)
const emailOf = (n: number): string => `User-${n}@corp.test`
/** Of ten policies one asks for users, one for groups and the tags of a pair, one for a team alone; the others ask for tags. */
function askedOf(n: number, pair: readonly string[], endpoints: number): object {
  const tags = { all: ['managed', ...pair], none: ['infected'] }
  const own = Array.from({ length: Math.ceil(endpoints / POLICIES) }, (_, round) => round * POLICIES + n).filter((each) => each < endpoints && policyOf(each) === n)
  if (n % 10 === 0 && own.length > 0) return { tags, users: own.map((each) => emailOf(each).toLowerCase()) }
  if (n % 10 === 1) return { tags, groups: ['staff', 'contractors'], authenticatedWithinSeconds: 43_200 }
  return n % 10 === 2 ? { groups: [`team-${n}`], issuer: ISSUER, tags: { all: ['managed'], none: ['infected'] } } : { tags }
}

/** Every policy stands on the service that is asked for: it is the walk over policies that is timed. */
function policiesOf(endpoints: number): Policies {
  const services = Array.from({ length: SERVICES }, (_, n) => ({ name: `s${n}`, protocol: 'tcp', match: [`host-${n}.corp.test`, `*.zone-${n}.test`, `10.${n >> 8}.${n & 255}.0/24`], ports: [22, '8000-8100'] }))
  const policies = pairs.map((pair, n) => ({ name: `p${n}`, services: ['s250'], ...askedOf(n, pair, endpoints), action: 'allow' }))
  const read = readPolicies(JSON.stringify({ services, policies }))
  if (!read.ok) throw new Error(JSON.stringify(read.errors))
  return read.policies
}

/** Nine of ten bear the pair of one policy, evenly, and their users are in its team; the tenth bears a single tag of a pair and matches none. */
function snapshotOf(endpoints: number): Snapshot {
  const tagUids = new Map(names.map((name, n) => [name, `tag-${n}`]))
  const records = Array.from({ length: endpoints }, (_, n): [string, EndpointRecord] => {
    const uid = uidOf(n)
    const policy = policyOf(n)
    const own = policy === null ? [`group-${n % PAIRED}`] : pairs[policy] ?? []
    const groups = [...COMPANY, ...policy === null ? [] : [`team-${policy}`]]
    return [uid, {
      uid, registered: true, online: true, onFabric: false, quarantined: false, hostName: `laptop-${n}`, addresses: [], macs: [], tagsKnown: true,
      certificates: [{ serial: serialOf(n), purpose: 'agent', user: '', notAfter: NOW + 1e9 }], ...sharedTags({ tags: [...COMMON, ...own].map((name) => [tagUids.get(name) ?? '', null]), unknown: [] }), unknownUntil: null,
      user: sharedUser({ issuer: ISSUER, subject: `${n}`, email: emailOf(n), name: `User ${n}`, groups, authenticatedAt: NOW - 60_000, expiresAt: NOW + 3_600_000 }),
    }]
  })
  return nextSnapshot(emptySnapshot, { revision: '1.x', currentAt: NOW, whole: true, endpoints: new Map(records), tagNames: new Map([...tagUids].map(([name, uid]) => [uid, name])) })
}

/** Times decisions for endpoints in an order that no cache could follow. */
export function benchDecision({ decisions = 500_000, endpoints = 100_000, progress }: { decisions?: number; endpoints?: number; progress: Progress }): Promise<Figure[]> {
  const [policies, snapshot] = [policiesOf(endpoints), snapshotOf(endpoints)]
  progress(`${BENCH}: ${endpoints} endpoints, ${POLICIES} policies`)
  const took = new Float64Array(decisions)
  // As the gate does: a certificate is read once, when its TLS session begins.
  const certificates = Array.from({ length: endpoints }, (_, n): AccessRequest['certificate'] => ({ status: 'proved', serial: serialOf(n), commonName: uidOf(n), purpose: 'agent', notAfter: NOW + 1e9 }))
  let allowed = 0
  const run = (count: number) => {
    allowed = 0
    for (let at = 0; at < count; at++) {
      const certificate = certificates[(at * 40_503 + 7) % endpoints] ?? { status: 'none' as const }
      const request: AccessRequest = { event: 'decide', protocol: 'tcp', host: 'host-250.corp.test', port: 22, path: '/', userAgent: '', origin: 'unknown', asked: true, certificate }
      const began = process.hrtime.bigint()
      const verdict = decide({ snapshot, policies, request, now: NOW })
      took[at] = Number(process.hrtime.bigint() - began) / 1_000
      if (verdict.allowed) allowed++
    }
  }
  run(Math.min(100_000, decisions))
  run(decisions)
  const samples = [...took]
  return Promise.resolve([
    alone(BENCH, 'decide-p50', 'us', percentile(samples, 0.5), 2), alone(BENCH, 'decide-p99', 'us', percentile(samples, 0.99), 10), alone(BENCH, 'decide-allowed', 'share', allowed / decisions),
  ])
}

if (import.meta.main) {
  const figures = await benchDecision({ progress: (sentence) => process.stderr.write(`${sentence}\n`) })
  process.stdout.write(process.argv.includes('--json') ? figures.map((figure) => `${JSON.stringify(figure)}\n`).join('') : table(figures))
}
