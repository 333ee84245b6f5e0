// Why a gateway sees what it sees: its entitlement in sentences, with counts from the records and from its own object. For administrators; it changes nothing.
import { eq } from 'drizzle-orm'
import { claimedAddresses, claimedMacs } from '../../domain/access/device-address.ts'
import { gatesFor } from '../../domain/version/gate.ts'
import { ownersOf, trustsOf } from '../../durable-objects/entitlement.ts'
import type { Sight } from '../../durable-objects/follower-store.ts'
import { entryOf } from '../../durable-objects/log-entry.ts'
import { devicesSeen } from '../../durable-objects/tag-addresses.ts'
import { Fault } from '../../protocol/faults.ts'
import { tagTypes, type TagState } from '../../protocol/rules.ts'
import { endpoints } from '../../schema/endpoint.ts'
import type { GatewayRow } from '../../schema/gateway.ts'
import { allTags } from '../../schema/queries/follow-log.ts'
import { sightCounts, sightsAt, sightsOf, statesOf, subscribersOf, tagsByType } from '../../schema/queries/sight-of.ts'
import type { Context } from '../context.ts'
import { findGateway } from './gateways.ts'

const nameOf = (type: number): string => (tagTypes as Record<number, string>)[type] ?? String(type)
const listed = (serials: readonly string[]) => (serials.length === 0 ? 'no gateway' : serials.join(', '))

export async function gatewaySight(context: Context, serial: string) {
  const row = await findGateway(context, serial)
  const { db, env } = context
  const [owners, trusts, types] = [ownersOf(row), trustsOf(row), JSON.parse(row.shareTagTypes) as number[]]
  const [[counted], tags, states] = await db.batch([sightCounts(db, serial), tagsByType(db), statesOf(db, owners ?? [])])
  const standing = row.state === 'authorised' ? await env.FCM_NOTIFY.getByName(serial).standing(serial) : null
  const sum = (rows: readonly { count: number }[]) => rows.reduce((all, { count }) => all + count, 0)
  const [all, told] = [sum(tags), sum(tags.filter(({ type }) => types.includes(type)))]
  const gates = standing === null ? null : gatesFor(standing.protocol)
  const missing = gates?.missing ?? []
  const hears = gates?.dynamicGroups === true
  const behind = standing?.cursor == null ? null : Math.max(0, (counted?.head ?? 0) - standing.cursor.revision)
  return {
    serial, state: row.state, shareMode: row.shareMode as 0 | 1 | 2, owners: owners === null ? null : [...owners], trusts: trusts === null ? null : [...trusts],
    tagTypes: types.map((type) => ({ type, name: nameOf(type) })), protocol: standing?.protocol ?? null, missing,
    counts: {
      endpoints: counted?.endpoints ?? 0, subscribed: counted?.subscribed ?? 0, inSight: standing?.inSight ?? null, tags: all, tagsTold: hears ? told : 0, sights: counted?.sights ?? 0, sockets: standing?.listening ?? 0,
    },
    neighboursAt: row.neighboursAt, connectionsAt: row.connectionsAt, behind,
    because: [
      ...(row.state === 'authorised' ? [] : [`It is told nothing, for it is ${row.state}: ${row.reason}`]),
      ...entitled(row, owners, states),
      `Of ${all} tags it ${hears ? 'is' : 'would be'} told ${told}: those of ${types.length === 0 ? 'no type' : types.map((type) => `type ${type} (${nameOf(type)})`).join(', ')}.`,
      trusts === null ? 'Addresses bear tags where any authorised gateway sees the device.' : `Addresses bear tags where ${listed(trusts)} sees the device.`,
      ...missing.map((what) => `By its protocol ${standing?.protocol ?? ''}: ${what}.`),
      ...(row.vouchedBy === null ? [] : [`It is here on the word of ${row.vouchedBy}${row.vouchedUntil === null ? '' : ` until ${new Date(row.vouchedUntil).toISOString()}`}, and has at most what that one has.`]),
      ...(standing !== null && standing.listening === 0 ? ['It is not listening: it learns of a change when it asks.'] : []),
      ...(behind !== null && behind > 0 ? [`Its object has not taken ${behind} rows of the change log yet; those may concern others only.`] : []),
    ],
  }
}

function entitled({ shareMode }: GatewayRow, owners: readonly string[] | null, states: readonly { serial: string; state: string }[]): string[] {
  if (owners === null) return ['Share mode 1: it sees every endpoint.']
  if (shareMode === 0) return ['Share mode 0: it sees the endpoints that it subscribed to, or looked up, itself.']
  const away = owners.filter((each) => !states.some(({ serial, state }) => serial === each && state === 'authorised'))
  return [`Share mode 2: it sees the endpoints that ${listed(owners)} subscribed to.`, ...(away.length === 0 ? [] : [`Not authorised, and so subscribed to nothing: ${listed(away)}.`])]
}

export async function endpointSight(context: Context, serial: string, uid: string) {
  const { db, env } = context
  const row = await findGateway(context, serial)
  const [endpoint] = await db.select().from(endpoints).where(eq(endpoints.uid, uid))
  if (endpoint === undefined) throw new Fault('not_found', 'There is no such endpoint.')
  const entry = entryOf(endpoint)
  const [macs, ips] = [claimedMacs(entry.macs), claimedAddresses(entry.ips)]
  const [owners, trusts, types] = [ownersOf(row), trustsOf(row), JSON.parse(row.shareTagTypes) as number[]]
  const [subscribers, tags, found, own] = await db.batch([subscribersOf(db, uid), allTags(db), sightsOf(db, uid, macs), sightsAt(db, serial, ips)])
  const seen = row.state === 'authorised' && (await env.FCM_NOTIFY.getByName(serial).seenAmong(serial, [uid]))?.includes(uid) === true
  const hears = row.state === 'authorised' && gatesFor(await env.FCM_NOTIFY.getByName(serial).protocol()).dynamicGroups
  const through = owners?.filter((each) => subscribers.some((subscriber) => subscriber.serial === each)) ?? []
  const sights = [...found, ...own].map((each): Sight => ({ serial: each.serial, kind: each.kind, vdom: each.vdom, ip: each.ip, uid: each.uid, device: each.kind === 'neighbour' ? each.mac : each.uid, interface: each.interface }))
  const trusted = sights.filter((each) => trusts === null || trusts.includes(each.serial))
  const counted = new Set(devicesSeen([{ entry }], trusted, serial).map(({ sight }) => keyOf(sight)))
  return {
    serial, uid, seen,
    because: row.state !== 'authorised' ? `The gateway is ${row.state}: ${row.reason}` : owners === null ? 'Share mode 1: it sees every endpoint.'
      : through.length > 0 ? `Share mode ${row.shareMode}: ${listed(through)} subscribed to it.` : `Share mode ${row.shareMode}: none of ${listed(owners)} subscribed to it.`,
    tags: (JSON.parse(endpoint.tags) as TagState[]).map(({ tagUid, state }) => {
      const tag = tags.find((each) => each.uid === tagUid)
      const told = seen && hears && tag !== undefined && types.includes(tag.type)
      return {
        uid: tagUid, name: tag?.name ?? '', state, told,
        because: !seen ? 'It does not see the endpoint.' : tag === undefined ? 'The tag is there no more.' : told ? `Tag type ${tag.type} (${nameOf(tag.type)}) is shared with it.` : !hears && types.includes(tag.type) ? 'By its protocol it is told no tags.' : `Tag type ${tag.type} (${nameOf(tag.type)}) is not shared with it.`,
      }
    }),
    addresses: found.map((each) => {
      const counts = seen && endpoint.registered && counted.has(keyOf({ ...each, device: '' }))
      return {
        gateway: each.serial, kind: each.kind, vdom: each.vdom, interface: each.interface, ip: each.ip, mac: each.mac, counts,
        because: counts ? 'Seen there, and the endpoint\'s own.' : !seen ? 'It does not see the endpoint.' : !(trusts === null || trusts.includes(each.serial)) ? `What ${each.serial} sees does not count for it.`
          : each.kind !== 'vpn' && !ips.includes(each.ip) ? 'The endpoint does not say that it has this address.' : 'This gateway itself sees another device at that address.',
      }
    }),
    claims: { ips, macs },
  }
}
const keyOf = ({ serial, kind, vdom, ip, uid }: Sight) => [serial, kind, vdom, ip, uid].join('/')
