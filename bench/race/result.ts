// What the race came to: ratios per round against the better peer of that round, and how far they spread.
import { alone, median, type Figure } from '../figures.ts'
import type { Column } from './gate.ts'
import { P99_GOAL, type Work } from './works.ts'

export interface Sample { readonly work: string; readonly runner: string; readonly value: number }

const BENCH = 'gateway'
const GATEWAY = 'gateway'
const peersOf = (samples: readonly Sample[]) => samples.filter(({ runner }) => runner !== GATEWAY)
const rounded = (value: number): number => Number(value.toPrecision(4))

/** @param rounds what was measured in each round; a work that was measured by latency has `-p50` and `-p99` */
export function raceFigures(works: readonly Work[], rounds: readonly (readonly Sample[])[], column: Column): Figure[] {
  return works.flatMap((work) => (work.unit === 'ms' ? [[`${work.name}-p50`, work.goal], [`${work.name}-p99`, P99_GOAL]] as const : [[work.name, work.goal]] as const).flatMap(([name, goal]): Figure[] => {
    const ours: number[] = []
    const best: number[] = []
    const each = new Map<string, number[]>()
    for (const samples of rounds) {
      const own = samples.find((sample) => sample.work === name && sample.runner === GATEWAY)
      const theirs = peersOf(samples).filter((sample) => sample.work === (work.against ?? name))
      if (own === undefined || theirs.length === 0) throw new Error(`${name} was not measured for everybody`)
      ours.push(own.value)
      best.push(Math.min(...theirs.map(({ value }) => value)))
      for (const { runner, value } of theirs) each.set(runner, [...each.get(runner) ?? [], value])
    }
    const ratios = ours.map((value, at) => value / (best[at] ?? Number.NaN))
    const ratio = rounded(median(ratios))
    const [metric, unit] = [`${column}-${name}`, work.unit]
    return [
      { bench: BENCH, metric, value: rounded(median(ours)), unit, floor: rounded(median(best)), ratio, goal, ok: ratio <= goal },
      ...(work.valueGoal === undefined ? [] : [alone(BENCH, `${metric}-cost`, unit, median(ours), work.valueGoal)]),
      ...[...each].map(([peer, values]) => alone(BENCH, `${metric}-${peer}`, unit, median(values))),
      alone(BENCH, `${metric}-ratio-lowest`, 'times', Math.min(...ratios)), alone(BENCH, `${metric}-ratio-highest`, 'times', Math.max(...ratios)),
    ]
  }))
}

/** KiB of a process for each idle tunnel, beside the better peer's. */
export function memoryFigures(samples: readonly Sample[]): Figure[] {
  const floor = Math.min(...peersOf(samples).map(({ value }) => value))
  return samples.map(({ work, runner, value }): Figure => (runner === GATEWAY
    ? { bench: BENCH, metric: work, value: rounded(value), unit: 'KiB', floor: rounded(floor), ratio: rounded(value / floor), ...(work.endsWith('http2') ? { goal: rounded(10 / floor), ok: value <= 10 } : {}) }
    : alone(BENCH, `${work}-${runner}`, 'KiB', value)))
}
