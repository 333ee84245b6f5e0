// `npm run bench`: figures of this machine beside floors measured in the same run. A goal that is missed is said, not hidden, and is no failure of the run.
import { readArguments, UsageError } from '../node/config.ts'
import { benchAttack } from './attack.ts'
import { benchCounts } from './counts.ts'
import { benchCut } from './cut.ts'
import { benchDecision } from './decision.ts'
import { benchFleet, type FleetSizes } from './fleet.ts'
import { table, type Figure, type Progress } from './figures.ts'
import { benchPropagation } from './propagation.ts'
import { benchTagging } from './tagging.ts'
import { benchThroughput } from './throughput.ts'
import { benchVulnerabilities } from './vulnerabilities.ts'

/** A fleet that an ordinary run has time for. */
const SMALL_FLEET = 2_000
const help = `Usage: npm run bench -- [--json] [--only NAME] [--flips N] [--requests N] [--rounds N] [--endpoints N] [--gateways N] [--edit N]

Measures the real EMS on local emulation (workerd, D1, objects, HTTPS) with a real gateway, beside floors in the same Worker.

  --only NAME    one benchmark: propagation, throughput, counts, fleet, decision, cut, vulnerabilities or attack (the last four run only by name)
  --flips N      propagation: tags taken (and given back); 2000 unless said. fleet: 200 unless said
  --requests N   throughput: requests of each kind in a round; 480 unless said
  --rounds N     throughput: rounds; 8 unless said
  --endpoints N  fleet and tagging: endpoints; 50000 unless said. Without --only it runs with ${SMALL_FLEET} at most
  --gateways N   fleet: gateways; 20 unless said
  --edit N       fleet: endpoints that an edit of a rule flips; 10000 unless said
  --seconds N    attack: how long; 60 unless said
  --json         one JSON line per figure: {bench, metric, value, unit, floor?, ratio?, goal?, ok?}

Examples:
  npm run bench
  npm run bench -- --only propagation --flips 200
  npm run --silent bench -- --json > figures.ndjson

Exit code: 0 it ran, also when a goal was missed; 1 it broke; 2 wrong usage.
`

interface Sizes { readonly flips: number; readonly requests: number; readonly rounds: number; readonly fleet: FleetSizes; readonly seconds: number }
interface Bench { readonly what: string; /** Too long for a run of everything. */ readonly onlyByName?: true; run(sizes: Sizes, progress: Progress): Promise<Figure[]> }

const benches: Readonly<Record<string, Bench>> = {
  propagation: {
    what: `From a report that takes a tag to the gateway and the open session, one flip at a time; p50 and p99 over all flips.
sent: the client begins to sign · accepted: the instant in the change log (EMS clock, whole ms, so up to 1 ms early: floor alike)
applied: the gateway has swapped its snapshot · cut: the client sees its session end (CONNECT over mutual TLS)
floor: in the same Worker a signed request, its admission (one D1 trip), one D1 batch of as many rows, one object call, one frame down a websocket`,
    run: ({ flips }, progress) => benchPropagation({ flips, progress }),
  },
  throughput: {
    what: `Requests a second over 16 kept connections, signed beforehand; medians of rounds that alternate. ratio: rate over the other's.
bare: a constant from a bare handler · signed: authentication and admission only · unchanged: a report of hashes alone
changed: a report that flips a tag, with one gateway · floor: the hops of the changed one with nothing in between`,
    run: ({ requests, rounds }, progress) => benchThroughput({ requests, rounds, progress }),
  },
  counts: {
    what: 'What one operation asks of D1 and the objects, to its end (what runs after the reply and what gateways then ask). Nothing is timed.',
    run: (_, progress) => benchCounts({ progress }),
  },
  fleet: {
    what: `A fleet that was written straight into D1 with small facts (five sections each), not by agents; each object then loaded it from there. One real device flips its tag.
Three gateways are the gateway's fabric half with its snapshot, the others signed sockets that pull: more snapshots in one process would be measured themselves.
flip: from the report to each gateway (and to the last); floor: the same hops with nothing in between, as many objects called, each with its frame; over-one-hop: beside one object and one frame
edit: an edit of a rule; floor: the endpoints that it flips, plainly read · first-load: pages of 2 MiB at most, read and checked; floor: rows and sections plainly read in the Worker
memory: a whole gateway in a process of its own, after garbage collection · counts: the same fleet under the meter`,
    run: ({ fleet }, progress) => benchFleet(fleet, progress),
  },
  decision: {
    what: 'One access decision, from the snapshot: 1,000 policies (the matching one spread evenly, a tenth matching none), 100,000 endpoints.',
    onlyByName: true, run: (_, progress) => benchDecision({ progress }),
  },
  cut: {
    what: 'From a snapshot that forbids to the end of sessions, with 10,000 tunnels open.',
    onlyByName: true, run: (_, progress) => benchCut({ progress }),
  },
  attack: {
    what: `20,000 TLS handshakes and 100,000 bare TCP connections a minute without a certificate, from thousands of addresses, against \`gateway run\`; one handshake of ten asks for a tunnel.
Whoever is the oldest of 2,048 strangers is ended by the gateway when another comes: what is begun is the generator's, what is done depends on its share of the machine too.
Meanwhile a device: round trips over an open tunnel, new tunnels over its connection, new connections; floor: the same in the calm before. Rates are those that were reached.
The gateway has the first core; strangers, the device, the EMS and the service share the others, so that a rate may be the generator's limit. memory: proportional set size`,
    onlyByName: true, run: ({ seconds }, progress) => benchAttack({ seconds, progress }),
  },
  vulnerabilities: {
    what: 'The match of a laptop\'s packages against 50,000 advisories; then the real EMS with them: import, reports, storage, renewal.',
    onlyByName: true, run: (_, progress) => benchVulnerabilities({ records: 50_000, laptops: 40, progress }),
  },
  tagging: {
    what: `An edit of one of 200 rule sets over a fleet that was written straight into D1 (ten small sections each, some twenty tags), not by agents; nine in ten endpoints are concerned, one in fifty of the fleet loses the tag.
edit-worked: ms in which the re-evaluation worked; floor: the same sections of the same endpoints, plainly read in pages, in the same Worker · edit-pauses: ms that it left to others on purpose, apart from that
edit-bytes-read: bytes of the values that D1 gave; floor: bytes of the rows of those sections · report-during-an-edit: beside reports in calm; workerd has one thread here for all of it
report, match, agent: rules or matching alone, no EMS; cold: an index that was never asked · stored: growth of the real database over laptops that report everything`,
    onlyByName: true, run: ({ fleet: { endpoints } }, progress) => benchTagging({ endpoints, ruleSets: 200, laptops: 20, advisories: 50_000 }, progress),
  },
}

function size(name: string, given: string | undefined, otherwise: number): number {
  const read = Number(given ?? otherwise)
  if (!Number.isInteger(read) || read < 1 || read > 1_000_000) throw new UsageError(`--${name} takes a number from 1, not "${given ?? ''}"`)
  return read
}

async function main(argv: string[]): Promise<void> {
  const text = { type: 'string' } as const
  const { values, positionals } = readArguments(argv, { json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' }, only: text, flips: text, requests: text, rounds: text, endpoints: text, gateways: text, edit: text, seconds: text })
  if (values.help === true) {
    process.stdout.write(help)
    return
  }
  if (positionals.length > 0) throw new UsageError(`"${positionals[0] ?? ''}" is one argument too many`)
  const endpoints = size('endpoints', values.endpoints, 50_000)
  const fleet = { endpoints, gateways: size('gateways', values.gateways, 20), flips: size('flips', values.flips, 200), edit: Math.min(endpoints, size('edit', values.edit, 10_000)) }
  const sizes: Sizes = { flips: size('flips', values.flips, 2_000), requests: size('requests', values.requests, 480), rounds: size('rounds', values.rounds, 8), fleet, seconds: size('seconds', values.seconds, 60) }
  const chosen = Object.entries(benches).filter(([name, { onlyByName }]) => (values.only === undefined ? onlyByName !== true && (name !== 'fleet' || endpoints <= SMALL_FLEET) : values.only === name))
  if (chosen.length === 0) throw new UsageError(`--only takes ${Object.keys(benches).join(', ')}, not "${values.only ?? ''}"`)
  let stopped = false
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => {
      if (stopped) process.exit(1)
      stopped = true
    })
  }
  const progress: Progress = (sentence) => {
    if (stopped) throw new Error('called off by a signal')
    process.stderr.write(`${sentence}\n`)
  }
  for (const [name, { what, run }] of chosen) {
    const figures = await run(sizes, progress)
    process.stdout.write(values.json === true ? figures.map((figure) => `${JSON.stringify(figure)}\n`).join('') : `${name}\n${what}\n\n${table(figures)}\n`)
  }
}

try {
  await main(process.argv.slice(2))
} catch (cause) {
  process.exitCode = cause instanceof UsageError ? 2 : 1
  process.stderr.write(cause instanceof UsageError ? `${cause.message}\n\n${help}` : `The benchmark broke: ${cause instanceof Error ? cause.stack ?? cause.message : String(cause)}\n`)
}
