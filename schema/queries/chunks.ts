// Lists as JSON in pieces that one bound value may hold (2 MB in production, in any script).

/** UTF-16 units: three bytes each at most. */
const MOST_UNITS = 600_000

/** Each piece is a JSON array; at least one, so that a statement made for each of them is made once. */
export function jsonPieces(rows: readonly unknown[], mostUnits = MOST_UNITS): string[] {
  const pieces: string[] = []
  let parts: string[] = []
  let units = 0
  for (const row of rows) {
    const part = JSON.stringify(row)
    if (units + part.length > mostUnits && parts.length > 0) {
      pieces.push(`[${parts.join(',')}]`)
      parts = []
      units = 0
    }
    parts.push(part)
    units += part.length + 1
  }
  return [...pieces, `[${parts.join(',')}]`]
}
