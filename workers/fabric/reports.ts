// The report tables: what a gateway sees is answered by its own object alone.
import type { PageRequest, ReportPage, ReportTable } from '../../durable-objects/report-page.ts'
import { PAGE_BYTES, type ReportQuery } from '../../protocol/fabric/envelope.ts'
import { Fault } from '../../protocol/faults.ts'
import { avatars, hostTags, hostTagsPost, olderTags, status, statusGet, subscribe, sysinfo, tags, uidTags, vulns } from '../../protocol/operations/fabric.ts'
import { allTags } from '../../schema/queries/follow-log.ts'
import { speaksFor } from '../../schema/queries/sights.ts'
import { gatesFor } from '../../domain/version/gate.ts'
import type { Context, KnownCaller } from '../context.ts'
import { subscribe as writeSubscriptions } from '../flows/subscriptions.ts'
import { handle, type Route } from '../http/mount.ts'
import { ok, VERSION } from './server.ts'

export type GatewayContext = Context<Extract<KnownCaller, { kind: 'gateway' }>>
type Spoken = Awaited<ReturnType<typeof speaksFor>>
const offsets = { sysinfo: 'uid_offset', uid_tags: 'uid_offset', vuln: 'uid_offset', avatar: 'fingerprint_offset', tags: 'tag_uid_offset', host_tags: 'uid_offset' } as const
export const objectOf = ({ env, caller }: GatewayContext) => env.FCM_NOTIFY.getByName(caller.serial)
export const refused = () => new Fault('not_authorised', 'This gateway is not authorised.')
/** What is told stands in two places: published readers look in `data.data` as well. */
export const twice = <T extends object>(told: T): T & { data: T } => ({ ...told, data: told })

const speaking = ({ db }: Pick<Context, 'db'>, serial: string, list: readonly string[] | undefined) => (list === undefined ? [] : [speaksFor(db, serial, list)])
/** Whose subscriptions bound the answer; null: nobody's. A serial that is not the caller's and not a member's stands for nothing. */
function ownersOf(caller: string, list: readonly string[] | undefined, spoken: Spoken | undefined): readonly string[] | null {
  if (list === undefined || list.includes(caller)) return null
  const named = (spoken ?? []).filter(({ serial }) => list.includes(serial))
  if (named.some(({ shareMode }) => shareMode === 1)) return null
  return named.flatMap(({ serial, shareMode, selectedSerials }) => (shareMode === 0 ? [serial] : JSON.parse(selectedSerials) as string[]))
}

/** The page goes out as it is: parsing two megabytes again would only prove what tests prove. */
async function answer(context: GatewayContext, table: ReportTable, query: ReportQuery, spoken: Spoken | undefined): Promise<Response> {
  const offset = offsets[table]
  const request: PageRequest = {
    updatedAfter: query.updated_after ?? '', offset: query[offset] ?? '', maxBytes: query.unzipped_size ?? PAGE_BYTES, uids: query.uid_list ?? null, owners: ownersOf(context.caller.serial, query.sn_list, spoken),
  }
  const text = await objectOf(context).page(context.caller.serial, table, request)
  if (text === null) throw refused()
  const page = JSON.parse(text) as ReportPage
  return Response.json({
    result: ok,
    data: {
      updated_after: page.updatedAfter, [offset]: page.offset ?? '', is_final: page.offset === null, is_zipped: false, unzipped_size: page.bytes, is_snapshot: page.isSnapshot,
      removed: page.removed, data: page.data,
    },
  }, { headers: { 'cache-control': 'no-store' } })
}

const tableRoutes = ([[sysinfo, 'sysinfo'], [uidTags, 'uid_tags'], [tags, 'tags'], [avatars, 'avatar'], [vulns, 'vuln'], [olderTags, 'host_tags']] as const).flatMap(([{ get, post }, table]): Route[] => [
  handle(get as typeof sysinfo.get, { load: (context, serial, { query }) => speaking(context, serial, query.sn_list), run: (context, { query }, [spoken]) => answer(context, table, query, spoken as Spoken | undefined) }),
  handle(post as typeof sysinfo.post, { load: (context, serial, { body }) => speaking(context, serial, body.sn_list), run: (context, { body }, [spoken]) => answer(context, table, body, spoken as Spoken | undefined) }),
])

/** Wire name → table; the published name of the vulnerabilities differs here. */
const statusTables = { sysinfo: 'sysinfo', vulns: 'vuln', avatar: 'avatar', host_tags: 'host_tags', uid_tags: 'uid_tags', tags: 'tags' } as const
type StatusName = keyof typeof statusTables
const statusNames = Object.keys(statusTables) as StatusName[]
interface Asked { readonly updatedAfter: string; readonly serials: readonly string[] | undefined }

/** Something new may concern none of the gateways named: then a pull tells nothing. Gateways that stand for nothing have nothing new. */
async function statusOf(context: GatewayContext, asked: Partial<Record<StatusName, Asked>>, spoken: Spoken | undefined) {
  const { serial } = context.caller
  const named = statusNames.flatMap((name) => (asked[name] === undefined ? [] : [{ name, table: statusTables[name], ...asked[name], owners: ownersOf(serial, asked[name].serials, spoken) }]))
  const told = await objectOf(context).status(serial, Object.fromEntries(named.map(({ table, updatedAfter }) => [table, updatedAfter])), Object.fromEntries(named.flatMap(({ table, owners }) => (owners === null ? [] : [[table, owners]]))), context.caller.gateway)
  if (told === null) throw refused()
  const states = named.map(({ name, table, owners }) => [name, { is_updated: owners?.length !== 0 && (told.updated[table] ?? true) }] as const)
  return { result: ok, data: { ...twice(Object.fromEntries(states) as Partial<Record<StatusName, { is_updated: boolean }>>), current: told.current } }
}

export const reportRoutes: readonly Route[] = [
  ...tableRoutes,
  ...[hostTags, hostTagsPost].map((operation) => handle(operation as typeof hostTags, {
    load: ({ db }) => [allTags(db)],
    async run(context, _, [rows]) {
      const types = JSON.parse(context.caller.gateway.shareTagTypes) as number[]
      const protocol = await objectOf(context).protocol()
      const shown = (rows as Awaited<ReturnType<typeof allTags>>).filter(({ type }) => types.includes(type) && gatesFor(protocol).dynamicGroups)
      return { result: ok, data: { ems_version: VERSION.version, data: shown.map(({ uid, name, type, description }) => ({ tag_uid: uid, name, type, description, detection_level: '' })) } }
    },
  })),
  handle(status, {
    load(context, serial, { body }) {
      const named = statusNames.flatMap((name) => body[name]?.sn_list ?? [])
      return speaking(context, serial, named.length === 0 ? undefined : named)
    },
    run: (context, { body }, [spoken]) => statusOf(context, Object.fromEntries(statusNames.flatMap((name) => {
      const asked = body[name]
      return asked === undefined ? [] : [[name, { updatedAfter: asked.version?.updated_after ?? '', serials: asked.sn_list }]]
    })), spoken as Spoken | undefined),
  }),
  handle(statusGet, {
    load: (context, serial, { query }) => speaking(context, serial, query.sn_list),
    run: (context, { query }, [spoken]) => statusOf(context, Object.fromEntries(statusNames.map((name) => [name, { updatedAfter: query.updated_after ?? '', serials: query.sn_list }])), spoken as Spoken | undefined),
  }),
  handle(subscribe, {
    load: (context, serial, { body }) => speaking(context, serial, body.update.flatMap(({ sn_list: list }) => list ?? [])),
    async run(context, { body }, [spoken]) {
      const { serial } = context.caller
      const allowed = new Set((spoken as Spoken).map((each) => each.serial))
      // The answer for a gateway that is another's is the one for a gateway that does not exist, and nothing is written.
      if (body.update.some(({ sn_list: list }) => list?.some((each) => !allowed.has(each)))) throw new Fault('not_found', 'There is no such gateway.')
      const [concerned, subscribed] = [new Set<string>(), new Map<string, { is_registered: boolean }>()]
      for (const { sn_list: list, uids, is_snapshot: isSnapshot } of body.update) {
        const [added, removed] = [true, false].map((wanted) => Object.entries(uids).filter(([, said]) => said.subscribe === wanted).map(([uid]) => uid)) as [string[], string[]]
        const done = await writeSubscriptions(context.db, list === undefined || list.length === 0 ? [serial] : list, { added, removed, isSnapshot })
        for (const each of done.concerned) concerned.add(each)
        for (const uid of added) subscribed.set(uid, { is_registered: done.registered.has(uid) })
      }
      await Promise.all([...concerned].map((each) => context.env.FCM_NOTIFY.getByName(each).rescope(each)))
      return { result: ok, data: twice({ subscribed: Object.fromEntries(subscribed) }) }
    },
  }),
]
