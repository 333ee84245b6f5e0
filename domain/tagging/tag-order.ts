// Which rule sets come before which, because one reads the tag that the other gives; and the circle, where there is one.

interface Linked<T> {
  readonly of: T
  /** Name of the tag it gives; null: none. */
  readonly gives: string | null
  /** Names of the tags it reads. */
  readonly reads: readonly string[]
}

/** Givers before readers, otherwise as they came. `circular`: those that can't be put in order, for they stand in a circle or read from one. */
export function inOrder<T>(given: readonly Linked<T>[]): { readonly order: T[]; readonly circular: T[] } {
  if (given.every(({ reads }) => reads.length === 0)) return { order: given.map(({ of }) => of), circular: [] }
  const waiting = new Map<string, number>()
  for (const { gives } of given) if (gives !== null) waiting.set(gives, (waiting.get(gives) ?? 0) + 1)
  const order: T[] = []
  let left = [...given]
  for (;;) {
    const ready = left.filter(({ reads }) => reads.every((tag) => (waiting.get(tag) ?? 0) === 0))
    if (ready.length === 0) return { order, circular: left.map(({ of }) => of) }
    for (const { of, gives } of ready) {
      order.push(of)
      if (gives !== null) waiting.set(gives, (waiting.get(gives) ?? 0) - 1)
    }
    const taken = new Set(ready)
    left = left.filter((each) => !taken.has(each))
  }
}

/** A circle of tags, each read to give the one before it: `a`, `b`, `a`; null: there is none. */
export function findCircle(given: readonly Linked<unknown>[]): string[] | null {
  const readFor = new Map<string, Set<string>>()
  for (const { gives, reads } of given) if (gives !== null) readFor.set(gives, new Set([...readFor.get(gives) ?? [], ...reads]))
  const done = new Set<string>()
  for (const start of readFor.keys()) {
    // Not by recursion: a chain may be as long as there are rule sets.
    const path: { readonly tag: string; readonly ahead: string[] }[] = [{ tag: start, ahead: [...readFor.get(start) ?? []] }]
    const on = new Set([start])
    while (path.length > 0) {
      const here = path.at(-1)
      const next = here?.ahead.pop()
      if (here === undefined || next === undefined) {
        path.pop()
        if (here !== undefined) {
          on.delete(here.tag)
          done.add(here.tag)
        }
      } else if (on.has(next)) return [...path.map(({ tag }) => tag).slice(path.findIndex(({ tag }) => tag === next)), next]
      else if (!done.has(next)) {
        on.add(next)
        path.push({ tag: next, ahead: [...readFor.get(next) ?? []] })
      }
    }
  }
  return null
}
