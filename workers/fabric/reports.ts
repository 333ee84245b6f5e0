// The report tables: what a gateway sees is answered by its own object alone.
import type { EndpointTable } from '../../durable-objects/follower-store.ts'
import type { ReportPage } from '../../durable-objects/report-page.ts'
import { PAGE_BYTES, type ReportQuery } from '../../protocol/fabric/envelope.ts'
import { Fault } from '../../protocol/faults.ts'
import { avatars, hostTags, status, statusGet, subscribe, sysinfo, tags, uidTags, vulns } from '../../protocol/operations/fabric.ts'
import { allTags } from '../../schema/queries/follow-log.ts'
import type { Context, KnownCaller } from '../context.ts'
import { subscribe as writeSubscriptions } from '../flows/subscriptions.ts'
import { handle, type Route } from '../http/mount.ts'
import { ok, VERSION } from './server.ts'

type GatewayContext = Context<Extract<KnownCaller, { kind: 'gateway' }>>
const offsets = { sysinfo: 'uid_offset', uid_tags: 'uid_offset', vuln: 'uid_offset', avatar: 'fingerprint_offset', tags: 'tag_uid_offset' } as const
const object = ({ env, caller }: GatewayContext) => env.FCM_NOTIFY.getByName(caller.serial)
const refused = () => new Fault('not_authorised', 'This gateway is not authorised.')

/** The page goes out as it is: parsing two megabytes again would only prove what tests prove. */
async function answer(context: GatewayContext, table: EndpointTable, query: ReportQuery): Promise<Response> {
  const offset = offsets[table]
  const text = await object(context).page(context.caller.serial, table, {
    updatedAfter: query.updated_after ?? '', offset: query[offset] ?? '', maxBytes: query.unzipped_size ?? PAGE_BYTES, uids: query.uid_list ?? null,
  })
  if (text === null) throw refused()
  const page = JSON.parse(text) as ReportPage
  return Response.json({
    result: ok,
    data: {
      updated_after: page.updatedAfter, ...(page.offset === null ? {} : { [offset]: page.offset }), is_final: page.offset === null, is_zipped: false, unzipped_size: page.bytes, is_snapshot: page.isSnapshot, data: page.data,
    },
  }, { headers: { 'cache-control': 'no-store' } })
}

const tableRoutes = ([[sysinfo, 'sysinfo'], [uidTags, 'uid_tags'], [tags, 'tags'], [avatars, 'avatar'], [vulns, 'vuln']] as const).flatMap(([{ get, post }, table]): Route[] => [
  handle(get as typeof sysinfo.get, { run: (context, { query }) => answer(context, table, query) }),
  handle(post as typeof sysinfo.post, { run: (context, { body }) => answer(context, table, body) }),
])

/** Wire name → table; the published name of the vulnerabilities differs here. */
const statusTables = { sysinfo: 'sysinfo', vulns: 'vuln', avatar: 'avatar', host_tags: 'host_tags', uid_tags: 'uid_tags', tags: 'tags' } as const
type StatusName = keyof typeof statusTables
const statusNames = Object.keys(statusTables) as StatusName[]

async function statusOf(context: GatewayContext, since: Partial<Record<StatusName, string>>) {
  const asked = Object.fromEntries(Object.entries(since).map(([name, watermark]) => [statusTables[name as StatusName], watermark]))
  const told = await object(context).status(context.caller.serial, asked)
  return { result: ok, data: Object.fromEntries(statusNames.filter((name) => since[name] !== undefined).map((name) => [name, { is_updated: told[statusTables[name]] ?? true }])) as Partial<Record<StatusName, { is_updated: boolean }>> }
}

export const reportRoutes: readonly Route[] = [
  ...tableRoutes,
  handle(hostTags, {
    load: ({ db }) => [allTags(db)],
    run(context, _, [rows]) {
      const types = JSON.parse(context.caller.gateway.shareTagTypes) as number[]
      const shown = (rows as Awaited<ReturnType<typeof allTags>>).filter(({ type }) => types.includes(type))
      return Promise.resolve({ result: ok, data: { ems_version: VERSION.version, data: shown.map(({ uid, name, type, description }) => ({ tag_uid: uid, name, type, description, detection_level: '' })) } })
    },
  }),
  handle(status, {
    run: (context, { body }) => statusOf(context, Object.fromEntries(statusNames.flatMap((name) => (body[name] === undefined ? [] : [[name, body[name].version?.updated_after ?? '']])))),
  }),
  handle(statusGet, { run: (context, { query }) => statusOf(context, Object.fromEntries(statusNames.map((name) => [name, query.updated_after ?? '']))) }),
  handle(subscribe, {
    async run(context, { body }) {
      const { serial } = context.caller
      const said = body.update.flatMap(({ uids }) => Object.entries(uids))
      const wanted = new Map(said.map(([uid, { subscribe: wants }]) => [uid, wants]))
      const [added, removed] = [[...wanted].filter(([, wants]) => wants).map(([uid]) => uid), [...wanted].filter(([, wants]) => !wants).map(([uid]) => uid)]
      const snapshot = body.update.some(({ is_snapshot: isSnapshot }) => isSnapshot)
      const { concerned, registered } = await writeSubscriptions(context.db, serial, added, removed, snapshot)
      await Promise.all(concerned.map((each) => context.env.FCM_NOTIFY.getByName(each).rescope(each)))
      return { result: ok, data: { subscribed: Object.fromEntries(added.map((uid) => [uid, { is_registered: registered.has(uid) }])) } }
    },
  }),
]
