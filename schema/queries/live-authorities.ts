// The CAs that hold now, the active first, as they stand in the records.
import { desc, gt } from 'drizzle-orm'
import type { DrizzleD1Database } from 'drizzle-orm/d1'
import { authorities } from '../authority.ts'

export const liveAuthorities = (db: DrizzleD1Database, now: number) => db.select({ certificatePem: authorities.certificatePem }).from(authorities).where(gt(authorities.notAfter, now)).orderBy(desc(authorities.slot))
