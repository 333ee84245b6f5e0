// What goes to standard output: JSON for machines, lines and tables for people. Every line passes `harmless` here, so that no command can forget it.
import { harmless, harmlessJson } from './harmless.ts'
import { write, type Io } from './io.ts'

/** `1 endpoint`, `2 endpoints`. */
export const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`

export interface Column<Item> { readonly title: string; cell(item: Item): string }

export interface Printer {
  readonly json: boolean
  /** One value: as JSON, or as lines. */
  one(value: unknown, lines: () => readonly string[]): Promise<void>
  /** A list as it comes in, page by page: one JSON line an item, or a table. `none` is said when it is empty. */
  list<Item>(pages: AsyncIterable<readonly Item[]>, columns: readonly Column<Item>[], none: string): Promise<void>
  /** Something was done: the reply as JSON, or a sentence. */
  done(reply: unknown, sentence: string): Promise<void>
  /** A sentence for people, on standard error. */
  say(sentence: string): Promise<void>
}

export function createPrinter(io: Io, json: boolean): Printer {
  const print = (lines: readonly string[]) => write(io.out, lines.map((line) => `${line}\n`).join(''))
  const say = (sentence: string) => write(io.err, `${harmless(sentence)}\n`)
  return {
    json, say,
    one: (value, lines) => print(json ? [harmlessJson(value)] : lines().map(harmless)),
    async list(pages, columns, none) {
      let row: ((cells: readonly string[]) => string) | null = null
      let found = false
      for await (const items of pages) {
        if (items.length === 0) continue
        found = true
        if (json) {
          await print(items.map(harmlessJson))
          continue
        }
        const rows = items.map((item) => columns.map((column) => harmless(column.cell(item))))
        const titles = row === null ? [columns.map(({ title }) => title)] : []
        row ??= rowOf([...titles, ...rows])
        await print([...titles, ...rows].map(row))
      }
      if (!found && !json) await say(none)
    },
    done: (reply, sentence) => (json ? print([harmlessJson(reply)]) : say(sentence)),
  }
}

const length = (text: string) => Array.from(text).length

/** Widths are those of the first page: the table is not held back until the last one is known. */
function rowOf(rows: readonly (readonly string[])[]): (cells: readonly string[]) => string {
  const widths = (rows[0] ?? []).map((_, at) => Math.max(...rows.map((cells) => length(cells[at] ?? ''))))
  return (cells) => cells.map((cell, at) => (at === cells.length - 1 ? cell : cell + ' '.repeat(Math.max(0, (widths[at] ?? 0) - length(cell))))).join('  ').trimEnd()
}

/** Named values under each other. */
export const fields = (pairs: readonly (readonly [name: string, value: string])[]): string[] => {
  const width = Math.max(...pairs.map(([name]) => name.length))
  return pairs.map(([name, value]) => `  ${name.padEnd(width)}  ${value}`)
}
