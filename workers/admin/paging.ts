// Lists by cursor: one more row than asked for tells whether there is a next page.

/** Cuts a list to its page. */
export function pageOf<Row, Item>(rows: readonly Row[], limit: number, cursorOf: (row: Row) => string, toItem: (row: Row) => Item): { items: Item[]; next: string | null } {
  const shown = rows.slice(0, limit)
  const last = shown.at(-1)
  return { items: shown.map(toItem), next: rows.length > limit && last !== undefined ? cursorOf(last) : null }
}
