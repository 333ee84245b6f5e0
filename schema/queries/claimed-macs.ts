// Which MACs endpoints say are their own, kept beside the endpoint so that a gateway's sight finds whom it concerns.
import { sql } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { endpointMacs } from '../endpoint.ts'
import { unchanged, type Guard } from './guarded.ts'

export const putMacs = (db: DrizzleD1Database, guard: Guard, macs: readonly string[]) => db.insert(endpointMacs)
  .select(sql`SELECT value, ${guard.uid} FROM json_each(${JSON.stringify(macs)}) WHERE ${unchanged(guard)}`).onConflictDoNothing()
export const dropMacs = (db: DrizzleD1Database, guard: Guard, macs: readonly string[]) => db.delete(endpointMacs)
  .where(sql`${endpointMacs.uid} = ${guard.uid} AND ${endpointMacs.mac} IN (SELECT value FROM json_each(${JSON.stringify(macs)})) AND ${unchanged(guard)}`)
