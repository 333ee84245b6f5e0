// Which session must be decided again next: a binary heap by instant. It runs no timer.

interface Entry<T> { at: number; readonly of: T }

/** A heap of instants; an entry is left in place when it is no longer wanted, and its owner ignores it when it comes up. */
export class Deadlines<T> {
  readonly #heap: Entry<T>[] = []

  get next(): number | null {
    return this.#heap[0]?.at ?? null
  }

  get size(): number {
    return this.#heap.length
  }

  add(at: number, of: T): void {
    const heap = this.#heap
    let index = heap.push({ at, of }) - 1
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (!this.#swapIfEarlier(index, parent)) return
      index = parent
    }
  }

  /** Takes out everything that is due at `now`. */
  takeDue(now: number): { at: number; of: T }[] {
    const due: { at: number; of: T }[] = []
    for (let first = this.#heap[0]; first !== undefined && first.at <= now; first = this.#heap[0]) {
      due.push(first)
      this.#removeFirst()
    }
    return due
  }

  #removeFirst(): void {
    const heap = this.#heap
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return
    heap[0] = last
    for (let index = 0; ;) {
      const left = 2 * index + 1
      const child = (heap[left + 1]?.at ?? Infinity) < (heap[left]?.at ?? Infinity) ? left + 1 : left
      if (child >= heap.length || !this.#swapIfEarlier(child, index)) return
      index = child
    }
  }

  #swapIfEarlier(lower: number, upper: number): boolean {
    const below = this.#heap[lower]
    const above = this.#heap[upper]
    if (below === undefined || above === undefined || below.at >= above.at) return false
    this.#heap[lower] = above
    this.#heap[upper] = below
    return true
  }
}
