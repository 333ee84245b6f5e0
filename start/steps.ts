// What `npm start` prints: one line per step for people, or one JSON line per step for machines.

export interface Steps {
  /** Runs one step, prints how it went and how long it took; rethrows what failed. */
  step<T>(name: string, sentence: string, run: () => Promise<T>, detail?: (result: T) => string): Promise<T>
  /** Prints a line of its own: people see the sentence, machines the record. */
  say(sentence: string, record?: Record<string, unknown>): void
}

/** Steps written to standard output. */
export function printSteps(json: boolean, clock: () => number = performance.now.bind(performance)): Steps {
  const write = (line: string) => { process.stdout.write(`${line}\n`) }
  const say: Steps['say'] = (sentence, record) => {
    if (!json) write(sentence)
    else if (record !== undefined) write(JSON.stringify(record))
  }
  return {
    say,
    async step(name, sentence, run, detail = () => '') {
      const begun = clock()
      const took = () => Math.round(clock() - begun)
      try {
        const result = await run()
        say(`  ✓ ${sentence}${detail(result) ? `: ${detail(result)}` : ''}  (${took()} ms)`, { step: name, ok: true, ms: took(), detail: detail(result) })
        return result
      } catch (cause) {
        const reason = cause instanceof Error ? cause.message : String(cause)
        say(`  ✗ ${sentence}: ${reason}  (${took()} ms)`, { step: name, ok: false, ms: took(), detail: reason })
        throw cause
      }
    },
  }
}

/** Asks again until the answer is right or the time is over. For things that have no event to wait for. */
export async function until<T>(what: string, ask: () => Promise<T | null>, timeoutMs = 30_000, everyMs = 25): Promise<T> {
  const end = performance.now() + timeoutMs
  let last: unknown = null
  while (performance.now() < end) {
    try {
      const answer = await ask()
      if (answer !== null) return answer
    } catch (cause) {
      last = cause
    }
    await new Promise((resolve) => setTimeout(resolve, everyMs))
  }
  throw new Error(`${what} did not happen within ${timeoutMs} ms`, { cause: last })
}
