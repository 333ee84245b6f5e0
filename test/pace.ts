// How fast this machine is just now. What is promised in real time is held against it, so that whoever else is at work breaks no promise of ours.
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const run = promisify(execFile)
/** What a machine of two idle cores takes to start Node and end it. */
const USUAL_MS = 60

/** How many times slower than usual a program is started here: 1 on an idle machine, never less. */
export async function slowness(): Promise<number> {
  let longest = 0
  for (let round = 0; round < 3; round++) {
    const began = performance.now()
    await run(process.execPath, ['-e', '0'])
    longest = Math.max(longest, performance.now() - began)
  }
  return Math.max(1, longest / USUAL_MS)
}
