// What must be written so that the kernel's sets are as wanted, and what others did to them. Pure: whoever asks brings both sides and the time.
import type { SetChange } from './kernel-sets.ts'

type Elements = ReadonlyMap<string, number>

/** An element is given this long at most: what a gateway that died has left behind ends by then. */
export const LONGEST_MS = 180_000
/** The kernel tells times left in whole seconds. */
export const SLACK_MS = 2_000

/**
 * The step for one element; null when the kernel's end is near enough to the wanted one.
 * @param held ms at which the kernel drops it, undefined when it is not there; @param end ms at which it should end, undefined when it should not be there
 */
export function neededChange(set: string, element: string, { held, end, now }: { held: number | undefined; end: number | undefined; now: number }): SetChange | null {
  const isHeld = held !== undefined && held > now
  if (end === undefined || end <= now) return isHeld ? { set, element, until: null } : null
  const until = Math.min(end, now + LONGEST_MS)
  // Shortened at once; prolonged when half of it is over.
  return isHeld && until >= held - SLACK_MS && until - now <= 2 * (held - now) ? null : { set, element, until }
}

/** What is in a set otherwise than it was left: `lost` ones are gone before their time, `foreign` ones are there without us, or for longer. */
export function tampering(listed: Elements | undefined, believed: Elements | undefined, now: number): { readonly lost: number; readonly foreign: number } {
  const lost = [...believed ?? []].filter(([element, until]) => until > now + SLACK_MS && !listed?.has(element))
  const foreign = [...listed ?? []].filter(([element, until]) => until > (believed?.get(element) ?? 0) + SLACK_MS)
  return { lost: lost.length, foreign: foreign.length }
}
