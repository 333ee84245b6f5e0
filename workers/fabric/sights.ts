// The two calls by which gateways tell what they see. What does not read, or is not the caller's to tell, is rejected by itself; the rest is taken.
import { deviceAddress, deviceMac } from '../../domain/access/device-address.ts'
import { MAX_SIGHTS } from '../../protocol/fabric/sightings.ts'
import { Fault } from '../../protocol/faults.ts'
import { uid as uidShape } from '../../protocol/ids.ts'
import { gatewayMac, vpn } from '../../protocol/operations/fabric.ts'
import { unprintable } from '../../protocol/text.ts'
import type { Parsed } from '../../protocol/operation.ts'
import { registeredAmong } from '../../schema/queries/interest.ts'
import { speaksFor, type SeenRow, type SightGroup } from '../../schema/queries/sights.ts'
import type { Context } from '../context.ts'
import { takeSights, type SightReport } from '../flows/sights.ts'
import { handle, type Route } from '../http/mount.ts'
import { ok } from './server.ts'

const VDOM = 'root'
const UIDS_AT_ONCE = 2_000
const FOREIGN = 'The caller may not speak for that gateway.'
const UNPRINTABLE = 'A name holds characters that can not be seen.'
/** What other gateways and administrators are shown must not deceive them. */
const isPlain = ({ vdom, interface: link }: { vdom: string; interface: string }) => !unprintable.test(vdom) && !unprintable.test(link)
interface Report { readonly seen: Map<string, SeenRow>; readonly ended: SeenRow[] }
type Reports = Map<string, Report>
const nothing = (): Report => ({ seen: new Map(), ended: [] })
const keyOf = ([kind, vdom, ip, uid]: SeenRow) => `${kind}/${vdom}/${ip}/${uid}`

/** Whose list it is; the answer for a gateway that is another's is the one for a gateway that does not exist. */
function reportsOf(caller: string, allowed: ReadonlySet<string>, list: readonly string[] | undefined): Reports {
  if (list?.some((serial) => !allowed.has(serial)) === true) throw new Fault('not_found', 'There is no such gateway.')
  return new Map((list ?? [caller]).map((serial) => [serial, nothing()]))
}
const reportOf = (reports: Reports, serial: string) => {
  const report = reports.get(serial) ?? nothing()
  reports.set(serial, report)
  return report
}

/** A snapshot holds for the gateways of its list; others that it names are told like a change. */
async function take(context: Context, group: SightGroup, reports: Reports, whole: ReadonlySet<string>, rows: unknown): Promise<void> {
  const marks = new Map((rows as { serial: string; fabric: string | null }[]).map(({ serial, fabric }) => [serial, fabric]))
  for (const [serial, { seen, ended }] of reports) {
    const report: SightReport = { seen: [...seen.values()], ended, isSnapshot: whole.has(serial), fabric: marks.get(serial) ?? null }
    await takeSights(context, { serial, group }, report)
  }
}
const wholeOf = (caller: string, { is_snapshot: isSnapshot, sn_list: list }: { is_snapshot: boolean; sn_list?: readonly string[] | undefined }) => new Set(isSnapshot ? list ?? [caller] : [])
const allowedOf = (rows: unknown) => new Set((rows as { serial: string }[]).map(({ serial }) => serial))
const named = (list: readonly string[] | undefined, items: readonly { sn: string }[]) => [...new Set([...list ?? [], ...items.map(({ sn }) => sn)])].slice(0, 200)

type MacBody = Parsed<typeof gatewayMac>['body']
type MacEntry = MacBody['gateway_mac_list'][number]

/** Takes one pair of a list; false when it is none, or one too many. */
function takePair({ seen, ended }: Report, row: SeenRow, isDelete: boolean): boolean {
  const [, , ip, , mac] = row
  const other = seen.get(keyOf(row))
  if (ip === '' || (!isDelete && other === undefined && seen.size >= MAX_SIGHTS)) return false
  if (isDelete) ended.push(row)
  // Two devices at one address: whose it is can't be told, so it is nobody's.
  else seen.set(keyOf(row), other === undefined || other[4] === mac ? row : ['neighbour', row[1], ip, '', '', row[5]])
  return true
}

/** What the entries say, and why some were not taken: whole, or the addresses that are none. */
function readMacs(body: MacBody, caller: string, allowed: ReadonlySet<string>) {
  const reports = reportsOf(caller, allowed, body.sn_list)
  const rejected: (MacEntry & { reason: string })[] = []
  for (const entry of body.gateway_mac_list) {
    const [sn, mac] = [entry.sn || caller, deviceMac(entry.mac.replaceAll('-', ':'))]
    if (!allowed.has(sn)) rejected.push({ ...entry, reason: FOREIGN })
    else if (!isPlain(entry)) rejected.push({ ...entry, reason: UNPRINTABLE })
    else if (mac === null) rejected.push({ ...entry, reason: 'That is no MAC of one device.' })
    else {
      const report = reportOf(reports, sn)
      const wrong = entry.ip_list.filter((ip) => !takePair(report, ['neighbour', entry.vdom || VDOM, deviceAddress(ip) ?? '', '', mac, entry.interface], entry.is_delete === true))
      if (wrong.length > 0) rejected.push({ ...entry, ip_list: wrong, reason: `Not addresses of one device, or more than ${MAX_SIGHTS}.` })
    }
  }
  return { reports, rejected }
}

type ConnectionBody = Parsed<typeof vpn>['body']
function readConnections(body: ConnectionBody, caller: string, allowed: ReadonlySet<string>, registered: ReadonlySet<string>) {
  const reports = reportsOf(caller, allowed, body.sn_list)
  const rejected: { uid: string; ip: string; sn: string; reason: string }[] = []
  for (const entry of body.uid_list) {
    const [sn, ip] = [entry.sn || caller, deviceAddress(entry.ip)]
    const refuse = (reason: string) => rejected.push({ uid: entry.uid, ip: entry.ip, sn: entry.sn, reason })
    if (!allowed.has(sn)) refuse(FOREIGN)
    else if (!isPlain(entry)) refuse(UNPRINTABLE)
    else if (!registered.has(entry.uid)) refuse('There is no such endpoint.')
    else if (ip === null) refuse('Not an address of one device.')
    else {
      const row: SeenRow = [entry.kind, entry.vdom || VDOM, ip, entry.uid, '', entry.interface]
      const { seen, ended } = reportOf(reports, sn)
      if (entry.is_delete === true) ended.push(row)
      else seen.set(keyOf(row), row)
    }
  }
  return { reports, rejected }
}

const chunks = (list: readonly string[], size: number) => Array.from({ length: Math.ceil(list.length / size) }, (_, at) => list.slice(at * size, (at + 1) * size))

export const sightRoutes: readonly Route[] = [
  handle(gatewayMac, {
    load: ({ db }, serial, { body }) => [speaksFor(db, serial, named(body.sn_list, body.gateway_mac_list))],
    async run(context, { body }, [rows]) {
      const { serial } = context.caller
      const { reports, rejected } = readMacs(body, serial, allowedOf(rows))
      await take(context, 'neighbours', reports, wholeOf(serial, body), rows)
      return { result: ok, data: rejected }
    },
  }),
  handle(vpn, {
    load: ({ db }, serial, { body }) => [
      speaksFor(db, serial, named(body.sn_list, body.uid_list)),
      ...chunks([...new Set(body.uid_list.map(({ uid }) => uid))].filter((text) => uidShape.safeParse(text).success), UIDS_AT_ONCE).map((uids) => registeredAmong(db, uids)),
    ],
    async run(context, { body }, [rows, ...known]) {
      const { serial } = context.caller
      const { reports, rejected } = readConnections(body, serial, allowedOf(rows), new Set((known as { uid: string }[][]).flatMap((page) => page.map(({ uid }) => uid))))
      await take(context, 'connections', reports, wholeOf(serial, body), rows)
      return { result: ok, data: { rejected } }
    },
  }),
]
