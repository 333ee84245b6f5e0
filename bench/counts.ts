// What each operation costs that production bills or waits for: D1 round trips and rows, object calls, frames. Counted in a metered Worker; nothing is timed.
import { openMembership } from '../gateway/fabric/membership.ts'
import { holdNotifySocket } from '../gateway/fabric/notify-socket.ts'
import { systemTimers } from '../node/timers.ts'
import { generateKey } from '../identity/keys.ts'
import { createCsr } from '../identity/request.ts'
import { createControlClient } from '../node/control-client.ts'
import { silentLog } from '../node/logging.ts'
import { deregisterEndpoint, replaceRuleSet } from '../protocol/operations/admin.ts'
import { renew } from '../protocol/operations/endpoint.ts'
import { sysinfo, uidTags } from '../protocol/operations/fabric.ts'
import { PROTOCOL } from '../protocol/ids.ts'
import { until } from '../start/steps.ts'
import { alone, type Figure, type Progress } from './figures.ts'
import { openFloor } from './floor-client.ts'
import { beginCounting, FLOOR_ROWS, floorFlip, signedOnly, takeTally, type Tally } from './floor/operations.ts'
import type { Device } from './device.ts'
import { openStage, ruleSet, type Gate, type Stage } from './stage.ts'
import { within } from './within.ts'

const BENCH = 'counts'
const names = {
  trips: ['d1-trips', 'trips'], objectTrips: ['d1-trips-in-objects', 'trips'], rowsRead: ['d1-rows-read', 'rows'], rowsWritten: ['d1-rows-written', 'rows'],
  objectRowsWritten: ['object-rows-written', 'rows'], objectCalls: ['object-calls', 'calls'], frames: ['frames', 'frames'], pulls: ['pulls', 'pages'],
} as const satisfies Record<keyof Tally, readonly [string, string]>
type Goals = Partial<Record<keyof Tally | 'allRowsWritten', number>>
/** This long without a count, and what the operation set going has ended. */
const QUIET_LOOKS = 8

const flipGoals = (gateways: number): Goals => ({ trips: 2, objectTrips: 0, objectCalls: gateways, frames: gateways, pulls: 0, allRowsWritten: 5 + gateways })

/** Counts what follows from `act`, to its end: also what runs after the reply, and what gateways then ask. */
export async function counted({ administrator }: Pick<Stage, 'administrator'>, warm: Pick<Device, 'client'>, act: () => Promise<unknown>): Promise<Tally> {
  await administrator.call(beginCounting)
  await warm.client.call(signedOnly, { body: { padding: '' } })
  await administrator.call(takeTally)
  await act()
  const total = await administrator.call(takeTally)
  let quiet = 0
  await until('quiet after an operation', async () => {
    const more = await administrator.call(takeTally)
    for (const name of Object.keys(total) as (keyof Tally)[]) total[name] += more[name]
    quiet = Object.values(more).every((value) => value === 0) ? quiet + 1 : 0
    return quiet === QUIET_LOOKS ? true : null
  })
  return total
}

const figuresOf = (operation: string, tally: Tally, goals: Goals = {}): Figure[] => [
  ...(Object.keys(names) as (keyof Tally)[]).map((name) => alone(BENCH, `${operation}/${names[name][0]}`, names[name][1], tally[name], goals[name])),
  ...(goals.allRowsWritten === undefined ? [] : [alone(BENCH, `${operation}/all-rows-written`, 'rows', tally.rowsWritten + tally.objectRowsWritten, goals.allRowsWritten)]),
]

/** The gateway's own client and a second socket of its, to ask by hand what it asks by itself. */
async function asGateway({ ems }: Stage, { stateDirectory }: Gate) {
  const membership = await openMembership(stateDirectory)
  if (membership === null) throw new Error('the gateway has no membership')
  const { privateKey, certificate } = membership.member()
  const client = createControlClient({ ems: ems.address, tlsCa: [ems.tlsCaPem], now: Date.now, log: silentLog(), identity: () => ({ privateKey, certificateDer: certificate.der }) })
  const stopping = new AbortController()
  const [greeted, found] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  let lookUp = (_uid: string): void => { throw new Error('the socket is not proved yet') }
  const ended = holdNotifySocket({
    client, privateKey, timers: systemTimers, signal: stopping.signal,
    onProved(send) {
      lookUp = (uid) => send({ type: 'lookup', uid })
      send({ type: 'hello', protocol: PROTOCOL, have: {} })
    },
    onMessages(messages) {
      if (messages.some(({ type }) => type === 'current')) greeted.resolve()
      if (messages.some(({ type }) => type === 'found')) found.resolve()
    },
  })
  await within('the greeting', greeted.promise)
  return {
    client,
    async lookUp(uid: string) {
      lookUp(uid)
      await within('the record', found.promise)
    },
    async close() {
      stopping.abort()
      await ended
      await client.close()
    },
  }
}

/** Runs it. */
export async function benchCounts({ progress }: { progress: Progress }): Promise<Figure[]> {
  const stage = await openStage({ metered: true })
  try {
    const figures: Figure[] = []
    const device = await stage.newDevice()
    const count = async (operation: string, act: () => Promise<unknown>, goals?: Goals) => {
      progress(`${BENCH}: ${operation}`)
      figures.push(...figuresOf(operation, await counted(stage, device, act), goals))
    }
    const flip = async (on: boolean) => device.send(await device.flipOf(on))
    await flip(false)
    await count('changed-report-0-gateways', () => flip(true), flipGoals(0))
    let gate: Gate | null = null
    await count('gateway-joins', async () => { gate = await stage.newGate() })
    await count('unchanged-report', async () => device.send(await device.reportOf({})), { trips: 1, rowsWritten: 0, objectRowsWritten: 0, objectCalls: 0, frames: 0, pulls: 0 })
    await count('changed-report-1-gateway', () => flip(false), flipGoals(1))
    const floor = await openFloor(device.client)
    await count('floor', () => device.client.call(floorFlip, { body: { padding: 'x'.repeat(64) } }), { trips: 2, rowsWritten: FLOOR_ROWS, objectCalls: 1, frames: 1 })
    await floor.close()
    let newcomer: Device | null = null
    await count('enrolment', async () => { newcomer = await stage.enrolDevice() })
    await count('first-two-reports', async () => { await newcomer?.introduce() })
    await count('renewal', async () => device.client.call(renew, { body: { csr: await createCsr(await generateKey(), 'laptop') } }))
    if (gate !== null) await countGateway(stage, gate, device, count)
    await count('rule-set-edit-2-endpoints', () => turnRule(stage, device.uid))
    await stage.newGate()
    await stage.newGate()
    await flip(true)
    await count('changed-report-3-gateways', () => flip(false), flipGoals(3))
    await count('deregistration', async () => stage.administrator.call(deregisterEndpoint, { params: { uid: newcomer?.uid ?? '' }, body: {} }))
    return figures
  } finally {
    await stage.close()
  }
}

/** Negates the rule: who had the tag loses it and who had it not gets it. Resolves when that has been worked out; the look at it goes past the meter. */
async function turnRule({ ems, administrator, ruleSetId }: Stage, getsIt: string): Promise<void> {
  const conditions = ruleSet.rules.linux.conditions.map((condition) => ({ ...condition, negate: true }))
  await administrator.call(replaceRuleSet, { params: { id: ruleSetId }, body: { ...ruleSet, rules: { linux: { conditions } } } })
  const database = await ems.miniflare.getD1Database('DB')
  await until('the edit in everybody\'s tags', async () => {
    const { results } = await database.prepare('SELECT uid FROM endpoint_tags').all<{ uid: string }>()
    return results.length === 1 && results[0]?.uid === getsIt ? true : null
  }, 60_000)
}

async function countGateway(stage: Stage, gate: Gate, device: Device, count: (operation: string, act: () => Promise<unknown>) => Promise<void>): Promise<void> {
  const gateway = await asGateway(stage, gate)
  try {
    await count('page-of-sysinfo-2-endpoints', () => gateway.client.call(sysinfo.get, { query: {} }))
    await count('page-of-uid-tags-2-endpoints', () => gateway.client.call(uidTags.get, { query: {} }))
    await count('lookup', () => gateway.lookUp(device.uid))
  } finally {
    await gateway.close()
  }
}
