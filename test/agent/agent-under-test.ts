// One enrolled agent in a state directory of its own, against an EMS that a test controls.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { enrolAgent } from '../../agent/enrol.ts'
import { startAgent, type AgentEvent, type AgentOptions, type RunningAgent } from '../../agent/start.ts'
import { createLog } from '../../node/logging.ts'
import { until } from '../../start/steps.ts'
import { startEmsDouble, type EmsDouble } from './ems-double.ts'

export interface Scene {
  readonly ems: EmsDouble
  readonly directory: string
  readonly events: AgentEvent[]
  /** What the log said, a line each. */
  readonly lines: Record<string, unknown>[]
  /** Its probes run no commands unless a test gives it some, and it comes back to its EMS without a spread. */
  start(over?: Partial<AgentOptions>): Promise<RunningAgent>
  /** The events of one kind. */
  told<E extends AgentEvent['event']>(name: E): Extract<AgentEvent, { event: E }>[]
}

const openThings: (() => Promise<unknown>)[] = []
export const onEnd = (close: () => Promise<unknown>): void => { openThings.push(close) }
export const closeAll = async (): Promise<void> => {
  for (const close of openThings.splice(0).reverse()) await close()
}

export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'agent-'))
  onEnd(() => rm(directory, { recursive: true, force: true, maxRetries: 10 }))
  return directory
}

/** An EMS, and an enrolment with it; `before` sets the EMS up. @param ownerUid the enrolled user; whoever runs this unless said */
export async function enrolledScene(before: (ems: EmsDouble) => Promise<void> | void = (ems) => ems.setProfile(), ownerUid = process.getuid?.() ?? 0): Promise<Scene> {
  const ems = await startEmsDouble()
  onEnd(() => ems.stop())
  await before(ems)
  const directory = join(await temporaryDirectory(), 'state')
  const lines: Record<string, unknown>[] = []
  const log = createLog({ name: 'agent', level: 'debug', destination: { write: (line: string) => { lines.push(JSON.parse(line) as Record<string, unknown>) } } })
  const events: AgentEvent[] = []
  await enrolAgent({ invitation: ems.invitation, stateDirectory: directory, tlsCa: [ems.tlsCa], ownerUid, now: Date.now, log })
  return {
    ems, directory, events, lines,
    async start(over = {}) {
      const agent = await startAgent({ stateDirectory: directory, log, now: Date.now, onEvent: (event) => events.push(event), command: () => Promise.resolve(null), random: () => 0, ...over })
      onEnd(() => agent.close())
      return agent
    },
    told: (name) => events.filter((each): each is Extract<AgentEvent, { event: typeof name }> => each.event === name),
  }
}

/** Waits until it has happened, for whatever has no event to wait for. */
export const happened = <T>(what: string, ask: () => T | null | undefined | false | Promise<T | null | undefined | false>): Promise<T> => until(what, async () => await ask() || null, 45_000, 10)
/** A first report with what every machine shows. */
export const reported = ({ ems }: Scene) => happened('a report', () => ems.held.has('os') && ems.held.has('user') && ems.held.has('network'))
