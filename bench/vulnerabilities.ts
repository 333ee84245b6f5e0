// Vulnerability matching: the pure match of a laptop against a large database, and the real EMS with it: import, a first and a second laptop, storage, who has what, renewal.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { AdvisoryIndex, type AdvisoryOn } from '../domain/vulnerability/match.ts'
import { readAdvisory } from '../domain/vulnerability/read-advisory.ts'
import { createControlClient, type ControlClient } from '../node/control-client.ts'
import { silentLog } from '../node/logging.ts'
import { MOST_RECORDS } from '../protocol/advisory.ts'
import { Fault } from '../protocol/faults.ts'
import type { Sections } from '../protocol/facts.ts'
import * as administration from '../protocol/operations/admin.ts'
import { findPackage, importAdvisories, readVulnerabilities, readVulnerabilityState } from '../protocol/operations/advisories.ts'
import { startEms, type LocalEms } from '../start/ems.ts'
import { until } from '../start/steps.ts'
import { enrolDevice, type Device } from './device.ts'
import { alone, median, table, type Figure, type Progress } from './figures.ts'
import { posture } from './posture.ts'

const BENCH = 'vulnerabilities'
/** Of a typical laptop. */
export const PACKAGES = 2_500
const SOURCES = 1_250
/** Sources that advisories name; a laptop has some of them. */
const NAMED = 10_000
/** Sources that have thousands of advisories each; every laptop has them. */
const HEAVY = 5

/** The same numbers in every run. */
function* numbers(): Generator<number, never> {
  for (let state = 440; ;) {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    yield state
  }
}

/**
 * Debian-like records: a few sources (a kernel, a browser) have thousands, most have some; nearly all are fixed in what an updated laptop has,
 * some in a later version, some not at all.
 */
export function makeRecords(count: number): object[] {
  const next = numbers()
  const draw = (below: number) => next.next().value % below
  return Array.from({ length: count }, (_, n) => {
    const source = draw(10) < 3 ? draw(HEAVY) : draw(NAMED)
    const fixed = draw(100) >= 3
    const minor = draw(100) < 4 ? 36 + draw(4) : draw(30)
    return {
      id: `DEBIAN-CVE-2024-${10_000 + n}`, modified: '2024-06-01T00:00:00Z', upstream: [`CVE-2024-${10_000 + n}`],
      severity: [{ type: 'CVSS_V3', score: `CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:${'NLH'[draw(3)]}/I:${'NLH'[draw(3)]}/A:${'NLH'[draw(3)]}` }],
      affected: [{ package: { ecosystem: 'Debian:12', name: `source-${source}` }, ranges: [{ type: 'ECOSYSTEM', events: [{ introduced: '0' }, ...(fixed ? [{ fixed: `1.${minor}.2-${1 + draw(9)}+deb12u${1 + draw(3)}` }] : [])] }] }],
    }
  })
}
/** The packages of one laptop: two binaries a source; `own` of them, none of a heavy source, are no other's. */
export const software = (laptop: number, own: number): Sections['software'] => ({
  packages: Array.from({ length: PACKAGES }, (_, n) => {
    const source = n % SOURCES
    const version = n >= HEAVY && n < HEAVY + own ? `1.36.2-${1 + laptop}+deb12u1` : `1.${30 + (source % 9)}.2-3+deb12u${1 + (source % 3)}`
    return { ecosystem: 'deb' as const, name: `lib-${source}-${n < SOURCES ? 'bin' : 'dev'}`, version, source: { name: `source-${source}`, version } }
  }),
})

/** Medians, ms: an index of the advisories; the first match with it, the second, which sorts, and one more. */
export interface MatchTimes { readonly advisories: number; readonly found: number; readonly index: number; readonly cold: number; readonly second: number; readonly warm: number }
export function timeMatches(records: readonly object[]): MatchTimes {
  const advisories = records.flatMap((record): AdvisoryOn[] => {
    const reading = readAdvisory(record)
    return reading.ok ? reading.advisory.affected.map((each) => ({ ...each, advisory: reading.advisory.id })) : []
  })
  const packages = software(0, 0).packages.map(({ name, version, source }) => ({ ecosystem: 'Debian:12', name, version, subject: source?.name ?? name, subjectVersion: source?.version ?? version }))
  const times = Array.from({ length: 12 }, () => {
    const at = [performance.now()]
    const lap = <T>(done: T): T => {
      at.push(performance.now())
      return done
    }
    const index = lap(new AdvisoryIndex(advisories))
    const found = lap(index.match(packages)).length
    lap(index.match(packages))
    lap(index.match(packages))
    return { found, laps: at.slice(1).map((each, n) => each - (at[n] ?? 0)) }
  }).slice(2)
  const of = (lap: number) => median(times.map(({ laps }) => laps[lap] ?? Infinity))
  return { advisories: advisories.length, found: times[0]?.found ?? 0, index: of(0), cold: of(1), second: of(2), warm: of(3) }
}

function benchPure(records: readonly object[], progress: Progress): Figure[] {
  progress(`matching ${PACKAGES} packages against ${records.length} advisories`)
  const { advisories, found, index, cold, second, warm } = timeMatches(records)
  return [
    alone(BENCH, `match ${PACKAGES} packages, ${advisories} advisories (${found} found)`, 'ms', warm, 20),
    alone(BENCH, 'the same with an index that has never been asked: each version is read', 'ms', cold, 20),
    alone(BENCH, 'the same asked the second time: versions are sorted', 'ms', second),
    alone(BENCH, 'an index of the advisories', 'ms', index),
  ]
}

async function importAll(administrator: ControlClient, records: readonly object[], progress: Progress): Promise<Figure> {
  const began = performance.now()
  for (let from = 0; from < records.length; from += MOST_RECORDS) {
    await administrator.call(importAdvisories, { body: { source: 'bench', records: records.slice(from, from + MOST_RECORDS), whole: from + MOST_RECORDS >= records.length } })
    if (from % 10_000 === 0) progress(`imported ${from} advisories`)
  }
  return alone(BENCH, 'import, advisories a second', '1/s', records.length / ((performance.now() - began) / 1_000))
}

/** A report that may have to be sent again while its packages are matched. @returns ms, and how often it was sent */
export async function timed(device: Device, sections: Partial<Sections>): Promise<{ ms: number; sent: number }> {
  const body = await device.reportOf(sections)
  const began = performance.now()
  for (let sent = 1; ; sent++) {
    try {
      await device.send(body)
      return { ms: performance.now() - began, sent }
    } catch (cause) {
      if (!(cause instanceof Fault) || cause.code !== 'busy' || sent > 50) throw cause
    }
  }
}

const databaseBytes = async (ems: LocalEms): Promise<number> => (await (await ems.miniflare.getD1Database('DB')).prepare('UPDATE advisory_state SET renewed_at = renewed_at').run()).meta.size_after

/** @param records advisories; @param laptops whose storage is measured */
export async function benchVulnerabilities({ records: count, laptops, progress }: { records: number; laptops: number; progress: Progress }): Promise<Figure[]> {
  const records = makeRecords(count)
  const figures = benchPure(records, progress)
  const directory = await mkdtemp(join(tmpdir(), 'sallyport-bench-'))
  const ems = await startEms({ directory })
  const administrator = createControlClient({ ems: ems.address, token: ems.adminToken, tlsCa: [ems.tlsCaPem], now: Date.now, log: silentLog(), timeoutMs: 120_000 })
  const devices: Device[] = []
  try {
    const { text: invitation } = await administrator.call(administration.createInvitation, { body: { name: 'bench', uses: 1_000 } })
    const before = await databaseBytes(ems)
    figures.push(await importAll(administrator, records, progress))
    figures.push(alone(BENCH, 'bytes stored for one advisory', 'B', (await databaseBytes(ems) - before) / count))
    const sections = (laptop: number): Partial<Sections> => ({ ...posture, software: software(laptop, 50) })
    const newDevice = async () => {
      const device = await enrolDevice({ ems: ems.address, tlsCaPem: ems.tlsCaPem, invitation, conditionKey: `ck_${'0'.repeat(32)}` })
      devices.push(device)
      return device
    }
    progress('a first laptop: every package is new to the fleet')
    const first = await timed(await newDevice(), sections(0))
    figures.push(alone(BENCH, `first laptop of the fleet, its report (sent ${first.sent} times)`, 'ms', first.ms))
    const bytes = await databaseBytes(ems)
    progress(`${laptops} more laptops`)
    const others: number[] = []
    for (let laptop = 1; laptop <= laptops; laptop++) others.push((await timed(await newDevice(), sections(laptop))).ms)
    figures.push(alone(BENCH, 'each further laptop with 50 packages of its own, its report, p50', 'ms', median(others)))
    figures.push(alone(BENCH, `stored for each of ${laptops} laptops, all sections and ${PACKAGES} packages (a part of the whole: pages are 4 KB)`, 'B', (await databaseBytes(ems) - bytes) / laptops, 40_000))
    const [one] = devices
    if (one === undefined) throw new Error('no laptop was enrolled')
    const { total } = await administrator.call(readVulnerabilities, { params: { uid: one.uid } })
    figures.push(alone(BENCH, 'vulnerabilities of the first laptop', '', total))
    const asked = performance.now()
    const { items } = await administrator.call(findPackage, { body: { name: 'lib-100-bin', limit: 200 } })
    figures.push(alone(BENCH, `who has a package (${items.length} have it)`, 'ms', performance.now() - asked))
    progress('an advisory that concerns every laptop')
    const renewed = performance.now()
    await administrator.call(importAdvisories, { body: { source: 'bench', records: [{ id: 'X-EVERYBODY-1', modified: '2024-07-01T00:00:00Z', affected: [{ package: { ecosystem: 'Debian:12', name: 'source-100' }, ranges: [{ type: 'ECOSYSTEM', events: [{ introduced: '0' }] }] }] }] } })
    figures.push(alone(BENCH, 'one advisory imported and matched', 'ms', performance.now() - renewed))
    await until('endpoints worked out anew', async () => ((await administrator.call(readVulnerabilityState, {})).settled ? true : null), 600_000)
    figures.push(alone(BENCH, 'endpoints worked out anew after it, a second', '1/s', devices.length / ((performance.now() - renewed) / 1_000)))
    return figures
  } finally {
    for (const device of devices) await device.close()
    await administrator.close()
    await ems.close()
    await rm(directory, { recursive: true, force: true })
  }
}

if (import.meta.main) process.stdout.write(`${table(await benchVulnerabilities({ records: 50_000, laptops: 40, progress: (sentence) => process.stderr.write(`${sentence}\n`) }))}\n`)
