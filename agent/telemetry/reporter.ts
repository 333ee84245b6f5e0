// Reports what changed, and only that: one report at a time, a sequence that a lost reply repeats, and what the EMS asks for again.
import { Fault } from '../../protocol/faults.ts'
import type { DocumentVersions } from '../../protocol/documents.ts'
import type { SectionName, Sections } from '../../protocol/facts.ts'
import { report } from '../../protocol/operations/endpoint.ts'
import type { ControlClient } from '../../node/control-client.ts'
import type { Log } from '../../node/logging.ts'
import type { Reported } from '../state.ts'
import { collect, type Collected, type Probes } from './collect.ts'

export interface ReportSent { readonly sequence: number; readonly sections: readonly SectionName[]; readonly changedAt: number; readonly sentAt: number }
export interface Reporter {
  /** Looks at these sections and reports those that changed. `changedAt`: when the change was noticed, ms. */
  check(names: readonly SectionName[], changedAt: number): Promise<void>
  /** The same for probes that take long: they look beside the queue, so that they hold up no other report. */
  checkSlowly(names: readonly SectionName[], changedAt: number): Promise<void>
}

/** @param keep writes down what was acknowledged, before the next report begins */
export function createReporter(options: {
  probes: Probes; client: ControlClient; reported: Reported; keep: (reported: Reported) => Promise<void>
  onSent?: (sent: ReportSent) => void; onDocuments: (versions: DocumentVersions) => void; now: () => number; log: Log
}): Reporter {
  const { client, log, reported } = options
  let running: Promise<void> = Promise.resolve()

  async function once(names: readonly SectionName[], changedAt: number, ahead?: Collected): Promise<void> {
    const collected = ahead ?? await collect(options.probes, names, log)
    const changed = (Object.keys(collected) as SectionName[]).filter((name) => collected[name]?.hash !== reported.hashes[name])
    if (changed.length > 0) await send(pick(collected, changed), changed, changedAt)
  }

  async function send(sections: Partial<Sections>, names: readonly SectionName[], changedAt: number, collected?: Collected): Promise<void> {
    const hashes = { ...reported.hashes, ...Object.fromEntries(await Promise.all(names.map(async (name) => [name, collected?.[name]?.hash ?? await hashOf(name, sections)] as const))) }
    const sequence = reported.sequence + 1
    options.onSent?.({ sequence, sections: names, changedAt, sentAt: options.now() })
    log.info({ event: 'report-sent', sequence, sections: names, changedAt, sentAt: options.now() }, 'A report was sent.')
    const reply = await client.call(report, { body: { sequence, changedAt, sections, hashes } })
    Object.assign(reported, { sequence, hashes, ...(sections.verdicts === undefined ? {} : { answers: sections.verdicts.answers }) })
    for (const wanted of reply.wanted) delete reported.hashes[wanted]
    await options.keep(reported)
    options.onDocuments(reply.documents)
    if (reply.wanted.length > 0) await once(reply.wanted, changedAt)
  }
  const hashOf = async (name: SectionName, sections: Partial<Sections>) => (await collect({ [name]: () => Promise.resolve(sections[name] ?? null) }, [name], log))[name]?.hash ?? ''

  const enqueue = (names: readonly SectionName[], changedAt: number, ahead?: Collected): Promise<void> => {
    // One after another: two reports at once would race for the same sequence.
    const outcome = running.then(() => once(names, changedAt, ahead)).catch(async (cause: unknown) => {
      if (!(cause instanceof Fault) || cause.code !== 'stale_sequence' || cause.extras.sequence === undefined) throw cause
      log.warn({ event: 'sequence-adopted', sequence: cause.extras.sequence }, 'The EMS has taken later reports; this agent goes on from there.')
      reported.sequence = cause.extras.sequence
      await once(names, changedAt, ahead)
    })
    // A failed report must not keep the next one from being tried.
    running = outcome.catch(() => undefined)
    return outcome
  }
  return {
    check: (names, changedAt) => enqueue(names, changedAt),
    checkSlowly: async (names, changedAt) => enqueue(names, changedAt, await collect(options.probes, names, log)),
  }
}

const pick = (collected: Collected, names: readonly SectionName[]): Partial<Sections> => Object.fromEntries(names.map((name) => [name, collected[name]?.value]))
