// A gateway in a process of its own, for its memory: started with --expose-gc, it says once what it holds when it is current and its snapshot is on disk.
import { setTimeout as delay } from 'node:timers/promises'
import { readCurrency } from '../gateway/fabric/snapshot-file.ts'
import { startGateway } from '../gateway/start.ts'
import { silentLog } from '../node/logging.ts'
import { until } from '../start/steps.ts'

export interface MemorySetting { readonly stateDirectory: string; readonly policiesFile: string; readonly tlsCaPem: string; readonly endpoints: number }
/** Bytes after garbage collection. */
export interface Memory { readonly heap: number; readonly resident: number }

const LIMIT_MS = 180_000

async function measure({ stateDirectory, policiesFile, tlsCaPem, endpoints }: MemorySetting): Promise<Memory> {
  const current = Promise.withResolvers<void>()
  const gateway = await startGateway({
    stateDirectory, policiesFile, listen: { host: '127.0.0.1', port: 0 }, metricsPort: 0, tlsCa: [tlsCaPem], now: Date.now, log: silentLog(),
    onEvent({ event }) { if (event === 'current') current.resolve() },
  })
  await current.promise
  await until('a snapshot on disk', async () => ((await readCurrency(stateDirectory))?.endpoints === endpoints ? true : null), LIMIT_MS)
  const { gc } = globalThis
  if (gc === undefined) throw new Error('start it with --expose-gc')
  for (let turn = 0; turn < 4; turn++) {
    gc()
    // What a collection lets go is freed in later turns of the loop.
    await delay(100)
  }
  const { heapUsed, external, rss } = process.memoryUsage()
  await gateway.close()
  return { heap: heapUsed + external, resident: rss }
}

process.once('message', (setting: MemorySetting) => {
  measure(setting).then((memory) => {
    process.send?.(memory)
    process.disconnect()
  }, (cause: Error) => {
    process.stderr.write(`${cause.stack ?? cause.message}\n`)
    process.exit(1)
  })
})
