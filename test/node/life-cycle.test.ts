// A daemon's end, as signals ask for it: by a process of its own, and through npm, as people start it.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, it } from 'vitest'

const made: string[] = []
afterEach(async () => {
  for (const directory of made.splice(0)) await rm(directory, { recursive: true, force: true })
})
const lifeCycle = fileURLToPath(new URL('../../node/life-cycle.ts', import.meta.url))
/** Says `up`, and at its end `closed`; `end` closes it once that is said to it. */
const program = `import { runUntilSignal } from ${JSON.stringify(lifeCycle)}
const said = new Promise((resolve) => process.stdin.once('data', resolve))
process.exit(await runUntilSignal(async (stopping) => {
  stopping.addEventListener('abort', () => console.log('stopping'))
  console.log('up')
  return { async close() { await said; console.log('closed') } }
}))`

async function daemon(command: string, args: readonly string[], directory: string) {
  const child = spawn(command, args, { cwd: directory, stdio: ['pipe', 'pipe', 'inherit'] })
  let text = ''
  child.stdout.on('data', (piece: Buffer) => { text += piece.toString() })
  const ended = once(child, 'exit') as Promise<[number | null, string | null]>
  const says = async (word: string) => { while (!text.includes(word)) await once(child.stdout, 'data') }
  await says('up')
  return { child, ended, says, text: () => text }
}
async function place(): Promise<string> {
  const directory = made[made.push(await mkdtemp(join(tmpdir(), 'daemon-'))) - 1] ?? ''
  await writeFile(join(directory, 'daemon.mjs'), program)
  await writeFile(join(directory, 'package.json'), JSON.stringify({ private: true, scripts: { daemon: `exec "${process.execPath}" daemon.mjs` } }))
  return directory
}

it('one signal that comes twice, from a terminal and from npm, is one wish', async () => {
  const directory = await place()
  const { child, ended, says, text } = await daemon(process.execPath, ['daemon.mjs'], directory)
  child.kill('SIGINT')
  await says('stopping')
  child.kill('SIGINT')
  child.stdin.end('end')
  expect([await ended, text().includes('closed')]).toEqual([[0, null], true])
})

it('a signal to npm closes what npm started', async () => {
  const directory = await place()
  const { child, ended, says, text } = await daemon('npm', ['run', '--silent', 'daemon'], directory)
  child.kill('SIGTERM')
  await says('stopping')
  child.stdin.end('end')
  await ended
  expect(text()).toContain('closed')
})
