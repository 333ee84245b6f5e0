// What was looked at again and found unchanged: when the EMS is to be told so, for the sections that rules want fresh. It looks at nothing and sends nothing.
import { ALONG_AFTER, LOOK_AFTER, type Demands } from '../../domain/tagging/demand.ts'
import type { ReportedName } from '../../protocol/facts.ts'

export interface Confirmations {
  /** A look at that instant (ms, EMS clock) found the section as it was. True: the EMS is to be told. */
  seen(section: ReportedName, lookedAt: number): boolean
  /** What goes with a report now, of the sections that the EMS holds as they are: section → when it was looked at. */
  due(held: Iterable<ReportedName>): Partial<Record<ReportedName, number>>
  /** The EMS knows the section as of the last look, or as of that one. */
  told(section: ReportedName, lookedAt?: number): void
  /** When the EMS last learned how the section is (ms); null: not since this start. */
  knownAt(section: ReportedName): number | null
}

/** @param demands section → within how many seconds rules want it known */
export function createConfirmations(demands: () => Demands): Confirmations {
  const lookedAt = new Map<ReportedName, number>()
  const knownAt = new Map<ReportedName, number>()
  /** Whether what the EMS knows of it is older than this part of the time demanded. */
  function isOlder(section: ReportedName, part: number): boolean {
    const [seconds, looked] = [demands()[section], lookedAt.get(section)]
    return seconds !== undefined && looked !== undefined && looked - (knownAt.get(section) ?? -Infinity) >= seconds * 1000 * part
  }
  return {
    seen(section, at) {
      lookedAt.set(section, at)
      return isOlder(section, LOOK_AFTER)
    },
    due: (held) => Object.fromEntries([...held].filter((section) => isOlder(section, ALONG_AFTER)).map((section) => [section, Math.max(0, Math.round(lookedAt.get(section) ?? 0))])),
    told(section, at = lookedAt.get(section)) { if (at !== undefined) knownAt.set(section, at) },
    knownAt: (section) => knownAt.get(section) ?? null,
  }
}
