// An endpoint whose tags change again and again is marked, so that people see it. It decides nothing: a tag takes effect at once, both ways.

/** More changes than this in the time make an endpoint flap; as long without any, and it does no more. */
const MOST = 6
const WINDOW_MS = 600_000

/** The last changes of an endpoint's tags (ms, oldest first, as many as are needed), and since when it flaps. */
export interface TagChanges { readonly at: readonly number[]; readonly flappingSince: number | null }

export const noTagChanges = '{"at":[],"flappingSince":null}'
export const readTagChanges = (text: string): TagChanges => JSON.parse(text) as TagChanges

/** Since when it flaps (ms); null: it does not, or has been quiet since. */
export const flappingSince = ({ at, flappingSince: since }: TagChanges, now: number): number | null => (now - (at.at(-1) ?? -Infinity) < WINDOW_MS ? since : null)

/** With one more change. */
export function withChange(before: TagChanges, now: number): TagChanges {
  const at = [...before.at.filter((each) => each > now - WINDOW_MS), now].slice(-(MOST + 1))
  return { at, flappingSince: flappingSince(before, now) ?? (at.length > MOST ? now : null) }
}
