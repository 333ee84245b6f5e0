// `npm run test:faults`: the matrix of faults at any size, repeatable by its seed.
import { readArguments, UsageError } from '../../node/config.ts'
import { faults } from './kinds.ts'
import { play, seeded } from './play.ts'
import { startWorld } from './world.ts'

const help = `Usage: npm run test:faults -- [--flips N] [--seed S] [--fault NAME] [--json]

  --flips N     changes of laptops under each fault (50)
  --seed S      repeats a run (a new one each time)
  --fault NAME  only this one: ${faults.map(({ name }) => name).join(', ')}
`

async function main(argv: string[]): Promise<number> {
  const { values } = readArguments(argv, { flips: { type: 'string' }, seed: { type: 'string' }, fault: { type: 'string' }, json: { type: 'boolean' }, help: { type: 'boolean' } })
  if (values.help === true) {
    process.stdout.write(help)
    return 0
  }
  const [flips, seed] = [Number(values.flips ?? 50), Number(values.seed ?? Date.now() % 1_000_000)]
  if (!Number.isInteger(flips) || flips < 1 || !Number.isInteger(seed)) throw new UsageError('--flips and --seed take whole numbers.')
  const wanted = faults.filter(({ name }) => values.fault === undefined || name === values.fault)
  if (wanted.length === 0) throw new UsageError(`There is no fault "${values.fault ?? ''}".`)
  let bad = 0
  for (const fault of wanted) {
    const random = seeded(seed)
    const defects: unknown[] = []
    const world = await startWorld({ laptops: 6, random, onDefect: (cause) => defects.push(cause) })
    try {
      const played = await play({ world, fault, flips, random, onRound: (done) => process.stderr.write(`\r${fault.name.padEnd(20)} ${done}/${flips} `) })
      process.stderr.write('\r')
      const violations = [...played.violations, ...defects.map((cause) => `a laptop is defective: ${String(cause)}`)]
      bad += violations.length
      const line = { ...played, violations, seed }
      process.stdout.write(values.json === true ? `${JSON.stringify(line)}\n` : `${violations.length === 0 ? '✓' : '✗'} ${fault.name.padEnd(20)} ${played.flips} flips, ${violations.length} violations, slowest convergence ${played.slowestMs} ms\n${violations.map((each) => `    ${each}\n`).join('')}`)
    } finally {
      await world.close()
    }
  }
  process.stderr.write(`seed ${seed}: ${bad} violations\n`)
  return bad === 0 ? 0 : 1
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (cause) {
  if (!(cause instanceof UsageError)) throw cause
  process.stderr.write(`${cause.message}\n${help}`)
  process.exitCode = 2
}
