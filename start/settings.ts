// What a local installation keeps between starts beside the data: its ports.
import { join } from 'node:path'
import { z } from 'zod'
import { readJson, writeJson } from '../node/key-store.ts'
import { port } from '../protocol/text.ts'
import { freePort } from './free-port.ts'

const ports = z.strictObject({ gateway: port, metrics: port, httpProxy: port, socksProxy: port, intranet: port, ledger: port })
export type Ports = z.infer<typeof ports>
const wanted: Ports = { gateway: 8443, metrics: 9464, httpProxy: 8630, socksProxy: 8631, intranet: 8080, ledger: 7000 }

/** The ports of the last start where they are still free, others where not. They are on disk when this resolves. */
export async function choosePorts(directory: string): Promise<Ports> {
  const file = join(directory, 'ports.json')
  const kept = await readJson(file, ports) ?? wanted
  const chosen = { ...kept }
  const taken = new Set<number>()
  for (const name of Object.keys(chosen) as (keyof Ports)[]) {
    const free = await freePort(kept[name])
    chosen[name] = taken.has(free) ? await freePort() : free
    taken.add(chosen[name])
  }
  await writeJson(file, chosen)
  return chosen
}
