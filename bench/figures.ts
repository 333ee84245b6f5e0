// What every benchmark gives: figures, as one JSON line each for machines or a table for people.

/** `ratio` is value over a floor measured in the same run; `goal` is for the ratio where there is one, else for the value. */
export interface Figure {
  readonly bench: string
  readonly metric: string
  readonly value: number
  readonly unit: string
  readonly floor?: number
  readonly ratio?: number
  readonly goal?: number
  readonly ok?: boolean
}
/** Says how far it is; throws when the run was called off. */
export type Progress = (sentence: string) => void

const rounded = (value: number): number => Number(value.toPrecision(4))

/** A duration, rate or count beside its floor. */
export function beside(bench: string, metric: string, unit: string, value: number, floor: number, goal?: number): Figure {
  const ratio = rounded(value / floor)
  return { bench, metric, value: rounded(value), unit, floor: rounded(floor), ratio, ...(goal === undefined ? {} : { goal, ok: ratio <= goal }) }
}
/** A figure that stands alone; a goal is the most that it may be. */
export const alone = (bench: string, metric: string, unit: string, value: number, goal?: number): Figure =>
  ({ bench, metric, value: rounded(value), unit, ...(goal === undefined ? {} : { goal, ok: value <= goal }) })

/** Nearest rank. @param share 0 < share ≤ 1 */
export function percentile(samples: readonly number[], share: number): number {
  const sorted = samples.toSorted((a, b) => a - b)
  const found = sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]
  if (found === undefined) throw new Error('there is no percentile of nothing')
  return found
}
export const median = (samples: readonly number[]): number => percentile(samples, 0.5)
/** Highest over lowest: what else the machine did meanwhile. */
export const spread = (samples: readonly number[]): number => Math.max(...samples) / Math.min(...samples)

const columns = ['metric', 'value', 'unit', 'floor', 'ratio', 'goal', 'ok'] as const
const cell = (figure: Figure, column: (typeof columns)[number]): string => {
  const value = figure[column]
  if (column === 'ok') return value === undefined ? '' : value === true ? 'yes' : 'NO'
  return column === 'goal' && value !== undefined ? `≤ ${value}` : String(value ?? '')
}

/** A table for people. What is nothing and has no goal is left out. */
export function table(figures: readonly Figure[]): string {
  const shown = figures.filter(({ value, goal }) => value !== 0 || goal !== undefined)
  const rows = [[...columns] as string[], ...shown.map((figure) => columns.map((column) => cell(figure, column)))]
  const widths = columns.map((_, at) => Math.max(...rows.map((row) => row[at]?.length ?? 0)))
  return rows.map((row) => `  ${row.map((text, at) => (at === 0 ? text.padEnd(widths[at] ?? 0) : text.padStart(widths[at] ?? 0))).join('  ').trimEnd()}\n`).join('')
}
