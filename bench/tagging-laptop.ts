// One typical laptop against 200 and 500 rule sets, worked out without an EMS, and what it takes in the database of a real one.
import { answerConditions } from '../domain/tagging/agent-rules.ts'
import { compileRules } from '../domain/tagging/compile.ts'
import type { Device as AskedDevice } from '../domain/tagging/device.ts'
import { evaluateEndpoint } from '../domain/tagging/evaluate.ts'
import type { Fact, Facts, SectionName } from '../protocol/facts.ts'
import type { LocalEms } from '../start/ems.ts'
import { conditionKey } from '../domain/tagging/condition-key.ts'
import { enrolDevice, type Device } from './device.ts'
import { alone, median, type Figure, type Progress } from './figures.ts'
import { posture } from './posture.ts'
import { answered, inputs, stored } from './tagging-rules.ts'
import { laptopOf } from './tagging-seed.ts'
import { PACKAGES, software, timed } from './vulnerabilities.ts'

const BENCH = 'tagging'
const PROCESSES = 300
const [WARM_UP, ROUNDS] = [200, 1_000]
/** A laptop whose build is new and whose protections are on. */
const TYPICAL = 11

async function timesOf(work: () => unknown): Promise<number> {
  const times: number[] = []
  for (let round = 0; round < WARM_UP + ROUNDS; round++) {
    const began = performance.now()
    await work()
    if (round >= WARM_UP) times.push(performance.now() - began)
  }
  return median(times)
}

function factsOf(now: number): Facts {
  const found = Array.from({ length: 40 }, (_, n) => ({ id: `CVE-2026-${10_000 + n}`, name: `flaw ${n}`, severity: 'medium' as const, package: `lib-${n}` }))
  const sections = { ...laptopOf(TYPICAL, now), vulnerabilities: { scannedAt: now, scanner: 'osv', found } }
  return Object.fromEntries(Object.entries(sections).map(([name, value]): [string, Fact] => [name, { value, at: now, provenance: 'claimed' }])) as Facts
}

/** ms of the rules alone: what is read and written around them is in other figures. */
export async function benchLaptop(progress: Progress): Promise<Figure[]> {
  progress(`${BENCH}: one laptop`)
  const [now, facts] = [Date.now(), factsOf(Date.now())]
  const rules = compileRules(stored(inputs(200)), 1)
  const first = evaluateEndpoint({ rules, facts, changed: 'all', previous: {}, now })
  const after = (section: SectionName) => () => evaluateEndpoint({ rules, facts, changed: [section], system: 'windows', previous: first.verdicts, now })
  const processes = Array.from({ length: PROCESSES }, (_, n) => ({ name: n % 60 === 0 ? `guard-${n / 60}` : `process-${n}`, path: `/usr/bin/process-${n}` }))
  const device: AskedDevice = { processes: () => Promise.resolve(processes), fileFacts: () => Promise.resolve({ exists: false }) }
  const questions = { revision: 1, conditions: [...answered] }

  const many = compileRules(stored(inputs(500)), 1)
  const all = evaluateEndpoint({ rules: many, facts, changed: 'all', previous: {}, now })
  const again = evaluateEndpoint({ rules: many, facts, changed: ['security'], system: 'windows', previous: all.verdicts, now })
  return [
    alone(BENCH, 'report-first-evaluation-p50', 'ms', await timesOf(() => evaluateEndpoint({ rules, facts, changed: 'all', previous: {}, now })), 1),
    alone(BENCH, 'report-one-section-evaluation-p50', 'ms', await timesOf(after('antivirus')), 1),
    alone(BENCH, 'report-answers-evaluation-p50', 'ms', await timesOf(after('verdicts')), 1),
    alone(BENCH, 'agent-answers-of-20-rules-300-processes-p50', 'ms', await timesOf(() => answerConditions(questions, device, {}, now)), 1),
    alone(BENCH, 'one-fact-of-500-rule-sets-evaluated', 'rule sets', again.evaluated.length, many.byOs.windows.filter(({ sections }) => sections.has('security')).length),
  ]
}

const bytesOf = async (ems: LocalEms): Promise<number> => (await (await ems.miniflare.getD1Database('DB')).prepare('UPDATE rules_state SET revision = revision WHERE id = 0').run()).meta.size_after

/** What a laptop takes in the database: every section, the ids of its packages, verdicts, tags; the fleet's list of packages and the row of the log go in with their share. */
export async function benchStorage({ ems, invitation, laptops, progress }: { ems: LocalEms; invitation: string; laptops: number; progress: Progress }): Promise<Figure[]> {
  progress(`${BENCH}: ${laptops} laptops report everything`)
  const devices: Device[] = []
  const key = conditionKey({ type: 'running-process', negate: false, name: 'guard' })
  try {
    const join = async (laptop: number) => {
      const device = await enrolDevice({ ems: ems.address, tlsCaPem: ems.tlsCaPem, invitation, conditionKey: key })
      devices.push(device)
      await timed(device, { ...posture, ...laptopOf(TYPICAL, Date.now()), software: software(laptop, 50), vulnerabilities: posture.vulnerabilities })
    }
    // The first brings the packages that all have.
    await join(0)
    const before = await bytesOf(ems)
    for (let laptop = 1; laptop <= laptops; laptop++) await join(laptop)
    return [alone(BENCH, `stored-a-laptop-of-${PACKAGES}-packages`, 'B', (await bytesOf(ems) - before) / laptops, 40_000)]
  } finally {
    for (const device of devices) await device.close()
  }
}
