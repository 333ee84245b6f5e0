// What a process and its children have cost: CPU time by the scheduler's own count, and memory that is theirs. Linux only.
import { readdir, readFile } from 'node:fs/promises'

/** Every thread's time on a CPU, in µs, of processes and their children. The scheduler counts in ns, where `stat` counts ticks of 10 ms. */
export async function cpuMicros(pid: number): Promise<number> {
  let nanos = 0
  for (const each of await family(pid)) {
    for (const thread of await readdir(`/proc/${each}/task`)) nanos += Number((await readFile(`/proc/${each}/task/${thread}/schedstat`, 'utf8')).split(' ')[0])
  }
  return nanos / 1000
}

/** Proportional set size of a process and its children, bytes: shared pages are counted once. */
export async function memoryBytes(pid: number): Promise<number> {
  let kib = 0
  for (const each of await family(pid)) kib += Number(/^Pss:\s+(\d+)/m.exec(await readFile(`/proc/${each}/smaps_rollup`, 'utf8'))?.[1])
  return kib * 1024
}

async function family(pid: number): Promise<number[]> {
  const children = (await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')).trim().split(' ').filter((text) => text !== '').map(Number)
  return [pid, ...(await Promise.all(children.map(family))).flat()]
}
