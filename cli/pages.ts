// Lists by cursor, followed to their end.
import { Fault } from '../protocol/faults.ts'

/** As many as a page may have. */
const LIMIT = 200
interface Page<Item> { readonly items: readonly Item[]; readonly next: string | null }

/** Page after page; the next is asked for when the one before has been taken. */
export async function* pagesOf<Item>(ask: (query: { after?: string; limit: number }) => Promise<Page<Item>>): AsyncGenerator<readonly Item[]> {
  let after: string | undefined
  for (;;) {
    const { items, next } = await ask({ ...(after === undefined ? {} : { after }), limit: LIMIT })
    yield items
    if (next === null) return
    // Else a broken server would keep this running forever.
    if (next === after) throw new Fault('internal', 'The EMS gave the same page twice.')
    after = next
  }
}

export async function allOf<Item>(pages: AsyncIterable<readonly Item[]>): Promise<Item[]> {
  const items: Item[] = []
  for await (const page of pages) items.push(...page)
  return items
}
