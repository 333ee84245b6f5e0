// The command: lines for machines have the shape that was promised, and the exit code says whether it ran. No figure is judged here.
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'

const root = fileURLToPath(new URL('../../', import.meta.url))
const figure = z.strictObject({
  bench: z.string(), metric: z.string().regex(/^[a-z0-9-]+$/), value: z.number(), unit: z.string(), floor: z.number().optional(), ratio: z.number().optional(), goal: z.number().optional(), ok: z.boolean().optional(),
}).refine(({ floor, ratio }) => (floor === undefined) === (ratio === undefined)).refine(({ goal, ok }) => (goal === undefined) === (ok === undefined))

function bench(...given: string[]): Promise<{ code: number; out: string; err: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, ['bench/main.ts', ...given], { cwd: root }, (error, out, err) => resolve({ code: error === null ? 0 : Number(error.code), out, err }))
  })
}
async function figuresOf(...given: string[]) {
  const { code, out, err } = await bench(...given, '--json')
  expect([code, code === 0 ? '' : err]).toEqual([0, ''])
  return new Map(out.trimEnd().split('\n').map((line) => figure.parse(JSON.parse(line))).map((each) => [each.metric, each]))
}

describe('npm run bench', () => {
  it('propagation: times to gateway and cut, each beside the floor', async () => {
    const figures = await figuresOf('--only', 'propagation', '--flips', '2')
    expect(figures.get('flips')?.value).toBe(2)
    for (const from of ['sent', 'accepted']) for (const to of ['applied', 'cut']) for (const [share, goal] of [['p50', 3], ['p99', 10]] as const) {
      const found = figures.get(`${from}-to-${to}-${share}`)
      expect(found).toMatchObject({ bench: 'propagation', unit: 'ms', goal })
      // Each is rounded to four digits by itself.
      expect((found?.ratio ?? 0) * (found?.floor ?? 0) / (found?.value ?? 1)).toBeCloseTo(1, 2)
    }
  }, 600_000)
  it('throughput: reports beside a bare handler and beside the floors', async () => {
    const figures = await figuresOf('--only', 'throughput', '--requests', '32', '--rounds', '1')
    for (const metric of ['bare', 'signed-over-bare', 'unchanged-over-bare', 'unchanged-over-signed', 'floor-over-bare', 'changed-over-bare', 'changed-over-floor']) {
      expect(figures.get(metric)).toMatchObject({ bench: 'throughput', unit: 'requests/s' })
      expect(figures.get(metric)?.value).toBeGreaterThan(0)
    }
  }, 600_000)
  it('says what is wrong with its arguments', async () => {
    expect(await bench('--only', 'nothing')).toMatchObject({ code: 2, out: '', err: expect.stringContaining('propagation, throughput, counts') as string })
    expect(await bench('--flips', '-1')).toMatchObject({ code: 2 })
    expect(await bench('--help')).toMatchObject({ code: 0, out: expect.stringContaining('--flips N') as string })
  })
})
