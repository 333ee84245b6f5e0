// How often somebody may ask: a bucket that fills again with time. It remembers a bounded number of askers.

export interface Allowance {
  /** Takes one. @returns 0 when there was one, else seconds until there is */
  take(who: string): number
}

const MAX_REMEMBERED = 10_000

/** @param burst at once; @param perSecond filled again; @param now ms */
export function createAllowance({ burst, perSecond, now }: { readonly burst: number; readonly perSecond: number; readonly now: () => number }): Allowance {
  const buckets = new Map<string, { left: number; at: number }>()
  return {
    take(who) {
      const at = now()
      const before = buckets.get(who) ?? { left: burst, at }
      const left = Math.min(burst, before.left + Math.max(0, at - before.at) / 1000 * perSecond)
      // The one that asked longest ago is forgotten first: a flood of strangers does not wash out those who keep asking.
      buckets.delete(who)
      buckets.set(who, { left: left < 1 ? left : left - 1, at })
      if (buckets.size > MAX_REMEMBERED) buckets.delete(buckets.keys().next().value ?? '')
      return left < 1 ? Math.ceil((1 - left) / perSecond) : 0
    },
  }
}
