// Housekeeping of the fleet's packages: those that nobody has had for an hour are removed.
import { newestPackage, noteOrphansBetween, orphansBefore, removePackages } from '../../schema/queries/packages.ts'
import type { Context } from '../context.ts'

const HOUR = 3_600_000
const EVERY_MS = 600_000
/** Packages looked at in one run; of those noted, removed at once and in one run. */
const LOOKED_AT = 2_000
const REMOVED_AT_ONCE = 2_000
const REMOVALS = 5

/** What broken-off reports left behind is looked for in parts, another part in each run. @param now ms */
export async function tidyPackages({ db }: Pick<Context, 'db'>, now: number): Promise<void> {
  const [newest] = await newestPackage(db)
  const parts = Math.ceil(((newest?.id ?? 0) + 1) / LOOKED_AT)
  const from = (Math.floor(now / EVERY_MS) % parts) * LOOKED_AT
  await noteOrphansBetween(db, from, from + LOOKED_AT - 1, now)
  for (let removal = 0; removal < REMOVALS; removal++) {
    const gone = (await orphansBefore(db, now - HOUR, REMOVED_AT_ONCE)).map(({ id }) => id)
    if (gone.length > 0) await db.batch(removePackages(db, gone))
    if (gone.length < REMOVED_AT_ONCE) return
  }
}
