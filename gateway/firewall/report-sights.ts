// Tells the EMS what this gateway sees: what changed soon after it did, and all of it each minute, so that a lost report is mended by the next.
import type { ControlClient } from '../../node/control-client.ts'
import type { Log } from '../../node/logging.ts'
import { Fault } from '../../protocol/faults.ts'
import { MAX_SIGHTS, SIGHT_REPORT_SECONDS } from '../../protocol/fabric/sightings.ts'
import * as fabric from '../../protocol/operations/fabric.ts'
import type { Timers } from '../../node/timers.ts'
import type { Connections } from './connections.ts'
import type { NeighbourTable } from './neighbour-table.ts'
import type { ToldSights } from './sources/told-sights.ts'

interface Options {
  readonly client: Pick<ControlClient, 'call'>
  readonly serial: string
  readonly table: NeighbourTable
  readonly connections: Connections
  /** Leases, and clients of VPNs that are known by UID. */
  readonly told: ToldSights
  readonly sightMs: number
  readonly timers: Timers
  /** ms. */
  readonly now: () => number
  readonly log: Log
  /** 0 to 1, for the jitter. */
  readonly random?: () => number
}

export interface SightReports {
  /** Something was seen, or is no longer seen, at an address. */
  changed(address: string): void
  close(): void
}

/** Changes within this time go together; the more gateways, the more their jitter matters. */
const GATHER_MS = 1_000
const MAX_ADDRESSES_OF_MAC = 64
const VDOM = 'root'

interface Pair { readonly ip: string; readonly mac: string; readonly link: string }
interface Source { readonly ip: string; readonly uid: string; readonly kind: 'mtls' | 'vpn'; readonly link: string }
/** What is at one address. */
interface Seen { readonly pairs: readonly Pair[]; readonly sources: readonly Source[] }
const nothing: Seen = { pairs: [], sources: [] }

/** Starts to report; the first whole report goes out within seconds. */
export function reportSights({ client, serial, table, connections, told: others, sightMs, timers, now, log, random = Math.random }: Options): SightReports {
  /** What the EMS was told, by address. */
  let told = new Map<string, Seen>()
  let dirty = new Set<string>()
  let sending: Promise<void> | null = null
  let isDue = true
  let closed = false
  let failed = false
  let cancelGather: (() => void) | null = null
  let cancelWhole = () => {}

  function seenAt(ip: string): Seen {
    const heard = others.at(ip, now())
    const neighbours = table.entriesOf(ip).filter((entry) => entry.seenAt + sightMs > now()).map(({ mac, link }) => ({ ip, mac, link }))
    const leases = heard.flatMap(({ mac, link }) => (mac === null || neighbours.some((pair) => pair.mac === mac) ? [] : [{ ip, mac, link }]))
    return {
      pairs: [...neighbours, ...leases],
      sources: [
        ...connections.sightsOf(ip).filter(({ until }) => until > now()).map(({ uid }) => ({ ip, uid, kind: 'mtls' as const, link: '' })),
        ...heard.flatMap(({ uid, link }) => (uid === null ? [] : [{ ip, uid, kind: 'vpn' as const, link }])),
      ],
    }
  }
  const keyOf = ({ pairs }: Seen) => pairs.map(({ mac, link }) => `${mac} ${link}`).sort().join()

  const macList = (pairs: readonly Pair[], isDelete: boolean) => [...Map.groupBy(pairs, ({ mac, link }) => `${mac} ${link}`).values()].flatMap((those) => {
    const [{ mac, link } = { mac: '', link: '' }] = those
    const ips = those.map(({ ip }) => ip)
    return Array.from({ length: Math.ceil(ips.length / MAX_ADDRESSES_OF_MAC) }, (_, index) => ({
      mac, vdom: VDOM, interface: link, sn: serial, ip_list: ips.slice(index * MAX_ADDRESSES_OF_MAC, (index + 1) * MAX_ADDRESSES_OF_MAC), ...(isDelete ? { is_delete: true } : {}),
    }))
  })
  const uidList = (sources: readonly Source[], isDelete: boolean) => sources.map(({ ip, uid, kind, link }) => ({ uid, ip, vdom: VDOM, interface: link, sn: serial, kind, ...(isDelete ? { is_delete: true } : {}) }))

  async function tell(macs: ReturnType<typeof macList>, uids: ReturnType<typeof uidList>, whole: boolean): Promise<void> {
    if (Math.max(macs.length, uids.length) > MAX_SIGHTS) log.warn({ event: 'sights-left-out', macs: macs.length, uids: uids.length }, 'More is seen than the EMS takes of one gateway; the rest is not reported.')
    if (whole || macs.length > 0) {
      const { data } = await client.call(fabric.gatewayMac, { body: { gateway_mac_list: macs.slice(0, MAX_SIGHTS), is_snapshot: whole, ...(whole ? { sn_list: [serial] } : {}) } })
      if (data.length > 0) log.debug({ event: 'sights-rejected', count: data.length, reason: data[0]?.reason }, 'The EMS did not take some neighbours.')
    }
    if (whole || uids.length > 0) {
      const { data } = await client.call(fabric.vpn, { body: { uid_list: uids.slice(0, MAX_SIGHTS), is_snapshot: whole, ...(whole ? { sn_list: [serial] } : {}) } })
      if (data.rejected.length > 0) log.debug({ event: 'sights-rejected', count: data.rejected.length, reason: data.rejected[0]?.reason }, 'The EMS did not take some connections.')
    }
  }

  async function tellAll(): Promise<void> {
    const all = new Map([...new Set([...table.addresses(), ...connections.addresses(), ...others.addresses()])].map((address) => [address, seenAt(address)]))
    dirty = new Set()
    await tell(macList([...all.values()].flatMap(({ pairs }) => pairs), false), uidList([...all.values()].flatMap(({ sources }) => sources), false), true)
    told = all
  }

  async function tellChanges(): Promise<void> {
    const changes = [...dirty].map((address) => ({ address, before: told.get(address) ?? nothing, after: seenAt(address) }))
    dirty = new Set()
    const moved = changes.filter(({ before, after }) => keyOf(before) !== keyOf(after))
    const missing = (from: Seen, other: Seen) => from.sources.filter(({ uid, kind }) => !other.sources.some((source) => source.uid === uid && source.kind === kind))
    // All that is at an address now, not what is new there: two MACs at one address are nobody's.
    const macs = [...macList(moved.filter(({ after }) => after.pairs.length === 0).flatMap(({ before }) => before.pairs), true), ...macList(moved.flatMap(({ after }) => after.pairs), false)]
    const uids = [...uidList(changes.flatMap(({ before, after }) => missing(before, after)), true), ...uidList(changes.flatMap(({ before, after }) => missing(after, before)), false)]
    await tell(macs, uids, false)
    for (const { address, after } of changes) {
      if (after.pairs.length + after.sources.length === 0) told.delete(address)
      else told.set(address, after)
    }
  }

  const hasNews = () => !closed && (isDue || dirty.size > 0)
  async function send(): Promise<void> {
    while (hasNews()) {
      const whole = isDue
      isDue = false
      try {
        await (whole ? tellAll() : tellChanges())
        failed = false
      } catch (cause) {
        if (!(cause instanceof Fault)) throw cause
        // What is now half told is told whole, at its time.
        if (!failed && !closed) log.warn({ event: 'sights-not-reported', reason: cause.message }, 'The EMS could not be told what is seen here; it will be told all of it later.')
        failed = true
        dirty = new Set()
      }
    }
  }
  function start(): void {
    sending ??= send().catch((cause: Error) => log.error({ event: 'sights-broken', reason: cause.message, stack: cause.stack }, 'Reporting sights failed inside the gateway.')).finally(() => {
      sending = null
      // Something that became due while the last call was ending.
      if (!closed && (isDue || (dirty.size > 0 && cancelGather === null && !failed))) start()
    })
  }
  const wholeAfter = (delayMs: number) => {
    cancelWhole = timers.after(delayMs, () => {
      isDue = true
      start()
      wholeAfter(SIGHT_REPORT_SECONDS * 1000 * (0.8 + 0.2 * random()))
    })
  }
  wholeAfter(2 * GATHER_MS * random())
  return {
    changed(address) {
      if (dirty.size < MAX_SIGHTS) dirty.add(address)
      cancelGather ??= timers.after(GATHER_MS * (0.5 + random()), () => {
        cancelGather = null
        if (!failed) start()
      })
    },
    close() {
      closed = true
      cancelGather?.()
      cancelWhole()
    },
  }
}
