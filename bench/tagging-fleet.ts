// An edit of one of 200 rule sets over a fleet that was written straight into D1: what it reads and writes, how long it works beside a plain read of the same sections, and what a report feels of it.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ControlClient } from '../node/control-client.ts'
import * as administration from '../protocol/operations/admin.ts'
import { startEms } from '../start/ems.ts'
import { until } from '../start/steps.ts'
import { conditionKey } from '../domain/tagging/condition-key.ts'
import { enrolDevice, type Device } from './device.ts'
import { alone, beside, median, type Figure, type Progress } from './figures.ts'
import { administratorOf } from './fleet-stage.ts'
import { fleetUids } from './fleet-seed.ts'
import { hold, plainSections, step, takeWork } from './floor/sections.ts'
import { benchStorage } from './tagging-laptop.ts'
import { edited, inputs } from './tagging-rules.ts'
import { NEXT_BUILD, OLD_BUILD, seedTaggingFleet } from './tagging-seed.ts'

const BENCH = 'tagging'
const PAGE = 1_000
/** What the edited rule set reads, of the systems that it is for. */
const SECTIONS = ['os', 'security'] as const
const CALM_REPORTS = 40
const SETTLED_WITHIN_MS = 600_000
const answer = { type: 'running-process', negate: false, name: 'guard-1' }

export interface PlainRead { readonly ms: number; readonly bytes: number; readonly rows: number; readonly endpoints: number }
async function readPlainly(administrator: ControlClient, text: boolean): Promise<PlainRead> {
  const began = performance.now()
  let [rows, bytes] = [0, 0]
  for (let after: string | null = ''; after !== null;) {
    const page: { rows: number; bytes: number; last: string | null } = await administrator.call(plainSections, { body: { sections: [...SECTIONS], os: 'windows', after, limit: PAGE, text } })
    rows += page.rows
    bytes += page.bytes
    after = page.last
  }
  return { ms: performance.now() - began, bytes, rows, endpoints: rows / SECTIONS.length }
}

/** ms of each report that flips a tag, one after the other while `going`. */
async function report(device: Device, going: (sent: number) => boolean): Promise<number[]> {
  const times: number[] = []
  while (going(times.length)) {
    const body = await device.flipOf(times.length % 2 === 0)
    const began = performance.now()
    await device.send(body)
    times.push(performance.now() - began)
  }
  return times
}

/** @param sizes endpoints of the fleet, nine in ten of which the edit concerns, and one in fifty of which it takes the tag; laptops whose storage is measured beside them */
export async function benchTaggingFleet({ endpoints, ruleSets, laptops }: { endpoints: number; ruleSets: number; laptops: number }, progress: Progress): Promise<Figure[]> {
  const directory = await mkdtemp(join(tmpdir(), 'sallyport-bench-'))
  const ems = await startEms({ directory: join(directory, 'ems'), variant: { entry: fileURLToPath(new URL('worker/tagging.ts', import.meta.url)), objects: { FLOOR: 'FloorObject' } } })
  const administrator = administratorOf(ems)
  const devices: Device[] = []
  try {
    const database = await ems.miniflare.getD1Database('DB')
    const settled = () => until('rules that hold everywhere', async () => ((await administrator.call(administration.reEvaluation)).running ? null : true), SETTLED_WITHIN_MS)
    progress(`${BENCH}: ${ruleSets} rule sets`)
    for (const body of inputs(ruleSets - 1)) await administrator.call(administration.createRuleSet, { body })
    const { id } = await administrator.call(administration.createRuleSet, { body: edited(OLD_BUILD) })
    const edit = (build: string) => administrator.call(administration.replaceRuleSet, { params: { id }, body: edited(build) })
    await settled()
    const { items } = await administrator.call(administration.listRuleSets, { query: { limit: ruleSets } })
    const { text: invitation } = await administrator.call(administration.createInvitation, { body: { name: 'bench', uses: laptops + 10 } })
    const storage = await benchStorage({ ems, invitation, laptops, progress })
    await seedTaggingFleet(database, { uids: fleetUids(endpoints), ruleSets: items, now: Date.now(), progress })
    const device = await enrolDevice({ ems: ems.address, tlsCaPem: ems.tlsCaPem, invitation, conditionKey: conditionKey(answer) })
    devices.push(device)
    await device.introduce()
    await settled()

    progress(`${BENCH}: a plain read of the sections`)
    await readPlainly(administrator, true)
    const plain = await readPlainly(administrator, true)
    const asBlobs = await readPlainly(administrator, false)
    await administrator.call(takeWork)
    progress(`${BENCH}: an edit`)
    const began = performance.now()
    await edit(NEXT_BUILD)
    await settled()
    const wall = performance.now() - began
    const { alarms, totalMs, workedMs } = await administrator.call(takeWork)
    const plainAfter = await readPlainly(administrator, true)
    const floor = median([plain.ms, plainAfter.ms])

    progress(`${BENCH}: an edit while reports come`)
    const calm = await report(device, (sent) => sent < CALM_REPORTS)
    let going = true
    await edit(OLD_BUILD)
    const [during] = await Promise.all([report(device, () => going), settled().finally(() => { going = false })])
    const busy = await administrator.call(takeWork)

    progress(`${BENCH}: an edit, counted`)
    await administrator.call(hold, { body: { held: true } })
    await edit(NEXT_BUILD)
    const sum = { steps: 0, evaluated: 0, written: 0, trips: 0, rowsRead: 0, rowsWritten: 0, bytesRead: 0 }
    for (let standing: unknown = undefined, again = true; again;) {
      const done = await administrator.call(step, { body: { standing } })
      for (const name of ['evaluated', 'written', 'trips', 'rowsRead', 'rowsWritten', 'bytesRead'] as const) sum[name] += done[name]
      sum.steps++
      standing = done.standing
      again = done.again
    }
    await administrator.call(hold, { body: { held: false } })
    return [
      ...storage,
      alone(BENCH, 'fleet', 'endpoints', endpoints), alone(BENCH, 'rule-sets', 'rule sets', ruleSets), alone(BENCH, 'edit-concerns', 'endpoints', plain.endpoints), alone(BENCH, 'edit-changes', 'endpoints', sum.written),
      alone(BENCH, 'edit-rule-sets-evaluated-an-endpoint', 'rule sets', sum.evaluated / plain.endpoints, 1.05),
      beside(BENCH, 'edit-bytes-read', 'B', sum.bytesRead, plain.bytes, 2),
      alone(BENCH, 'edit-rows-written-a-changed-endpoint', 'rows', sum.rowsWritten / Math.max(1, sum.written), 4),
      alone(BENCH, 'edit-trips', 'trips', sum.trips), alone(BENCH, 'edit-rows-read-an-endpoint', 'rows', sum.rowsRead / plain.endpoints), alone(BENCH, 'edit-steps', 'steps', alarms),
      beside(BENCH, 'edit-worked', 'ms', workedMs, floor, 2), alone(BENCH, 'edit-pauses', 'ms', totalMs - workedMs), alone(BENCH, 'edit-to-its-end', 'ms', wall),
      alone(BENCH, 'plain-read', 'ms', floor), alone(BENCH, 'plain-read-as-numbers', 'ms', asBlobs.ms),
      beside(BENCH, 'report-during-an-edit-p50', 'ms', median(during), median(calm)), alone(BENCH, 'reports-during-an-edit', 'reports', during.length),
      alone(BENCH, 'edit-among-reports-worked', 'ms', busy.workedMs), alone(BENCH, 'edit-among-reports-pauses', 'ms', busy.totalMs - busy.workedMs),
    ]
  } finally {
    for (const device of devices) await device.close()
    await administrator.close()
    await ems.close()
    await rm(directory, { recursive: true, force: true })
  }
}
