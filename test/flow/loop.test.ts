// `npm start` as a stranger runs it: the whole loop on this machine, as a process of its own, with data that outlives it.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { until } from '../../start/steps.ts'
import { visit } from '../../start/visit.ts'

interface Line { readonly step: string; readonly ok: boolean; readonly detail?: string; readonly [name: string]: unknown }
const program = fileURLToPath(new URL('../../start/main.ts', import.meta.url))

describe('npm start', { timeout: 600_000 }, () => {
  let directory: string
  const running: ChildProcess[] = []
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'sallyport-start-'))
  })
  afterAll(async () => {
    for (const child of running) child.kill('SIGKILL')
    await rm(directory, { recursive: true, force: true, maxRetries: 10 })
  })

  function start(...options: string[]) {
    const child = spawn(process.execPath, [program, '--json', '--directory', directory, ...options], { stdio: ['ignore', 'pipe', 'pipe'] })
    running.push(child)
    const lines: Line[] = []
    let errors = ''
    child.stderr.on('data', (chunk) => { errors += String(chunk) })
    const read = createInterface({ input: child.stdout })
    const looped = new Promise<Line>((resolve) => {
      read.on('line', (text) => {
        const line = JSON.parse(text) as Line
        lines.push(line)
        if (line.step === 'loop') resolve(line)
      })
    })
    return { child, lines, looped, errors: () => errors, ended: once(child, 'exit') as Promise<[number | null, string | null]> }
  }
  const proxyOf = async () => (JSON.parse(await readFile(join(directory, 'ports.json'), 'utf8')) as { httpProxy: number }).httpProxy

  it('runs the loop once and says so line by line', async () => {
    const { lines, ended, errors } = start('--once')
    expect([await ended, errors()]).toEqual([[0, null], ''])
    expect(lines.map(({ step, ok }) => [step, ok])).toEqual([
      'ems', 'services', 'gateway', 'configuration', 'agent', 'posture', 'tag', 'allowed-http', 'allowed-tcp', 'changed', 'cut', 'refused', 'explained', 'decision', 'restored', 'loop',
    ].map((step) => [step, true]))
    const loop = lines.at(-1)
    expect([loop?.detect_ms, loop?.cut_ms, loop?.restore_ms].every((ms) => Number.isInteger(ms))).toBe(true)
    expect(loop?.cut_decision).toMatch(/^D[0-9A-F]{12}-/)
    const explained = lines.find(({ step }) => step === 'explained')?.detail ?? ''
    for (const part of ['rule "npm start"', 'wanted file', 'seen: does not exist', 'Create']) expect(explained).toContain(part)
  })

  it('goes on with the same data, stays up, and ends cleanly on SIGTERM', async () => {
    const { child, lines, looped, ended, errors } = start()
    expect(await looped).toMatchObject({ ok: true })
    const detail = (step: string) => lines.find((line) => line.step === step)?.detail
    expect((await visit(await proxyOf(), 'http://intranet.corp.test/')).status).toBe(200)
    const second = start('--once')
    expect(await second.ended).toEqual([1, null])
    expect(second.errors()).toContain('another "npm start" may be running')
    child.kill('SIGTERM')
    expect([await ended, errors()]).toEqual([[0, null], ''])
    const again = start('--once')
    await again.ended
    expect(again.lines.filter(({ step }) => step === 'agent' || step === 'ems').map(({ detail: each }) => each)).toEqual([detail('ems'), detail('agent')])
  })

  it('leaves nothing behind when it is killed, and starts again', async () => {
    const { child, looped, ended, errors } = start()
    await looped
    // What the Worker logs (by now that this machine is flapping) goes to a file: people read the steps.
    await until('the log of the Worker', async () => (await readFile(join(directory, 'ems.log'), 'utf8')).includes('"endpoint-flapping"') || null)
    expect(errors()).toBe('')
    child.kill('SIGKILL')
    await ended
    // The runtime of a killed parent would keep the port.
    await until('the port to be free', async () => {
      const { ended: tried } = start('--once')
      return (await tried)[0] === 0 ? true : null
    }, 300_000, 200)
  })

  it('refuses wrong usage with exit code 2 and says how it is used', async () => {
    const { ended, errors } = start('--prot', '1')
    expect(await ended).toEqual([2, null])
    expect(errors()).toContain('Usage: npm start')
  })
})
