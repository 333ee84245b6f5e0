// What a gateway may see, and whose word lets it in: set by administrators; a root gateway gives its members at most what it has.
import { and, eq, inArray, ne, or } from 'drizzle-orm'
import { Fault } from '../../protocol/faults.ts'
import { gateways, type GatewayRow } from '../../schema/gateway.ts'
import type { Context } from '../context.ts'
import { authorise, changesSight, deauthoriseGateway, findGateway, type Entitlement } from './gateways.ts'

const listOf = <T>(json: string) => JSON.parse(json) as T[]

/** As much of `wanted` as a root has itself: its tag types, and no endpoint that it does not see. */
export function within(root: Entitlement, wanted: Entitlement): Entitlement {
  const types = listOf<number>(root.shareTagTypes)
  const [own, theirs] = [listOf<string>(root.selectedSerials), listOf<string>(wanted.selectedSerials)]
  // A member's own endpoints are its own, whatever its root sees.
  const mode = wanted.shareMode === 0 || root.shareMode === 1 ? wanted.shareMode : root.shareMode
  const selected = mode !== 2 ? [] : root.shareMode === 1 ? theirs : wanted.shareMode === 2 ? theirs.filter((serial) => own.includes(serial)) : own
  return { shareMode: mode, selectedSerials: JSON.stringify(selected), shareTagTypes: JSON.stringify(listOf<number>(wanted.shareTagTypes).filter((type) => types.includes(type))) }
}

const sightFields = ['shareMode', 'selectedSerials', 'shareTagTypes'] as const

/** What a gateway is entitled to; its object then loads anew. Members that it vouched for keep at most that. */
export async function entitle(context: Context, serial: string, set: Partial<Entitlement & Pick<GatewayRow, 'name' | 'isRoot'>>): Promise<void> {
  const before = await findGateway(context, serial)
  if (Object.keys(set).length > 0) await context.db.update(gateways).set(set).where(eq(gateways.serial, serial))
  const row = { ...before, ...set }
  // Also when the records say so already: the call that loads anew may have been lost the first time.
  if (row.state === 'authorised' && sightFields.some((name) => set[name] !== undefined)) await context.env.FCM_NOTIFY.getByName(serial).configure(serial)
  const members = await context.db.select().from(gateways).where(and(eq(gateways.vouchedBy, serial), eq(gateways.state, 'authorised'), ne(gateways.serial, serial)))
  for (const member of members) {
    if (!row.isRoot) await deauthoriseGateway(context, member.serial, `Gateway ${serial}, which vouched for it, may vouch for nobody any more.`)
    else if (changesSight(member, within(row, member))) await entitle(context, member.serial, within(row, member))
  }
}

/**
 * A root gateway vouches for pending members, or takes it back for those it vouched for. Anybody else's are as unknown as ones that
 * do not exist: they are in neither list.
 * @param periodSeconds how long its word counts; undefined: until it is taken back
 */
export async function vouch(context: Context, root: GatewayRow, verdicts: Readonly<Record<string, 'accept' | 'deny'>>, periodSeconds: number | undefined): Promise<{ authorized: string[]; deauthorized: string[] }> {
  if (!root.isRoot) throw new Fault('forbidden', 'Only a root gateway may vouch for others.')
  const rows = await context.db.select().from(gateways).where(and(ne(gateways.serial, root.serial), inArray(gateways.serial, Object.keys(verdicts)), or(eq(gateways.state, 'pending'), eq(gateways.vouchedBy, root.serial))))
  const done = { authorized: [] as string[], deauthorized: [] as string[] }
  const vouchedUntil = periodSeconds === undefined ? null : context.now() + periodSeconds * 1000
  for (const row of rows) {
    if (verdicts[row.serial] === 'deny') {
      await deauthoriseGateway(context, row.serial, `Gateway ${root.serial} does not vouch for it.`)
      done.deauthorized.push(row.serial)
    } else if (row.state !== 'denied') {
      await authorise(context, row, { vouchedBy: root.serial, vouchedUntil, ...(row.state === 'authorised' ? within(root, row) : within(root, root)) })
      done.authorized.push(row.serial)
    }
  }
  return done
}
