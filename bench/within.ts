// A limit for what has an event to wait for: a benchmark that hangs says on what.

const LIMIT_MS = 60_000

/** Waits for it, a minute at most unless said. */
export async function within<T>(what: string, awaited: Promise<T>, limitMs = LIMIT_MS): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => { reject(new Error(`${what} did not come within ${limitMs} ms`)) }, limitMs)
  })
  try {
    return await Promise.race([awaited, late])
  } finally {
    clearTimeout(timer)
  }
}
