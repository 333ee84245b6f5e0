// Bodies of report pages, read from D1 by UID: what a gateway's object does not keep itself. It decides nothing about who may see them.
import { inArray, sql } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import type { z } from 'zod'
import type { avatarData, SysinfoRecord, vulnData } from '../../protocol/fabric/tables.ts'
import type { Facts } from '../../protocol/facts.ts'
import { avatars, endpoints, endpointSections, type EndpointRow } from '../../schema/endpoint.ts'
import { readFacts } from './facts.ts'
import { MATCHES } from './inventory.ts'
import { sysinfoRecord } from './sysinfo-record.ts'

/** UIDs in one read: with ten sections each it stays below 5,000 rows. */
export const BODIES_AT_ONCE = 200
const shownSections = ['os', 'user', 'network', 'hardware', 'security', 'antivirus', 'agent', 'identity', 'vulnerabilities', MATCHES]

interface Body { readonly row: EndpointRow; readonly facts: Facts }
async function load(db: DrizzleD1Database, uids: readonly string[]): Promise<Map<string, Body>> {
  const among = sql`(SELECT value FROM json_each(${JSON.stringify(uids)}))`
  const [rows, sections] = await db.batch([
    db.select().from(endpoints).where(sql`${endpoints.uid} IN ${among}`),
    db.select().from(endpointSections).where(sql`${endpointSections.uid} IN ${among} AND ${inArray(endpointSections.section, shownSections)}`),
  ])
  const byUid = Map.groupBy(sections, ({ uid }) => uid)
  return new Map(rows.map((row) => [row.uid, { row, facts: readFacts(byUid.get(row.uid) ?? []) }]))
}

/** The sysinfo record of each UID that there is. */
export async function sysinfoBodies(db: DrizzleD1Database, uids: readonly string[]): Promise<Map<string, SysinfoRecord>> {
  const bodies = await load(db, uids)
  return new Map([...bodies].map(([uid, { row, facts }]) => [uid, sysinfoRecord(row, facts)]))
}

type Vulnerabilities = z.infer<typeof vulnData>
/** Vulnerabilities as reported; endpoints that reported none are left out. */
export async function vulnBodies(db: DrizzleD1Database, uids: readonly string[]): Promise<Map<string, Vulnerabilities>> {
  const bodies = await load(db, uids)
  return new Map([...bodies].flatMap(([uid, { row, facts }]): [string, Vulnerabilities][] => {
    const reported = facts.vulnerabilities?.value
    if (reported === undefined) return []
    const { hostname, ip, mac, user_name } = sysinfoRecord(row, facts)
    const of = { fgt_sn: '', vdom: 'root', scan_time: Math.floor(reported.scannedAt / 1000), hostname, ip, mac, user_name, vuln_ids: reported.found.map(({ id }) => id) }
    return [[uid, {
      forticlients: { [uid]: of },
      vulns: Object.fromEntries(reported.found.map(({ id, name, severity, package: affected }) => [id, { vuln_name: name, category: affected, severity, vendor_url: '', cve_ids: id.startsWith('CVE-') ? [id] : [] }])),
    }]]
  }))
}

/** The picture of each UID's user, by fingerprint; those who have none are left out. */
export async function avatarBodies(db: DrizzleD1Database, uids: readonly string[]): Promise<Map<string, z.infer<typeof avatarData>>> {
  const bodies = await load(db, uids)
  const wanted = new Map([...bodies].flatMap(([uid, { facts }]) => (facts.user?.value.avatarFingerprint === undefined ? [] : [[uid, facts.user.value.avatarFingerprint] as const])))
  if (wanted.size === 0) return new Map()
  const rows = await db.select({ fingerprint: avatars.fingerprint, image: avatars.image }).from(avatars).where(sql`${avatars.fingerprint} IN (SELECT value FROM json_each(${JSON.stringify([...new Set(wanted.values())])}))`)
  const images = new Map(rows.map(({ fingerprint, image }) => [fingerprint, image]))
  return new Map([...wanted].flatMap(([uid, fingerprint]) => {
    const avatar = images.get(fingerprint)
    return avatar === undefined ? [] : [[uid, { [fingerprint]: { avatar } }] as const]
  }))
}

/** The pictures of these endpoints' users, with whose they are. */
export async function userPictures(db: DrizzleD1Database, uids: readonly string[]): Promise<{ uid: string; fingerprint: string; avatar: string; account: string; domain: string }[]> {
  const [bodies, pictures] = [await load(db, uids), await avatarBodies(db, uids)]
  return [...pictures].flatMap(([uid, held]) => {
    const { row, facts } = bodies.get(uid) ?? {}
    return Object.entries(held).map(([fingerprint, { avatar }]) => ({ uid, fingerprint, avatar, account: facts?.user?.value.account ?? row?.account ?? '', domain: facts?.user?.value.domain ?? '' }))
  })
}
