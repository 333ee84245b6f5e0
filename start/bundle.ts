// Bundles the Worker for local emulation, as wrangler would for deployment.
import { build } from 'esbuild'
import { fileURLToPath } from 'node:url'

const worker = fileURLToPath(new URL('../workers/index.ts', import.meta.url))

/** The Worker (or another entry) as one ES module. `cloudflare:*` and `node:*` are left to workerd. */
export async function bundleWorker(entry = worker): Promise<string> {
  const built = await build({
    entryPoints: [entry], bundle: true, write: false, format: 'esm', platform: 'neutral', target: 'es2024',
    mainFields: ['module', 'main'], conditions: ['workerd', 'worker', 'browser', 'import'],
    external: ['cloudflare:*', 'node:*'], logLevel: 'silent', sourcemap: 'inline', sourcesContent: false,
  })
  const [file] = built.outputFiles
  if (file === undefined) throw new Error(`esbuild produced no output for ${entry}`)
  return file.text
}
