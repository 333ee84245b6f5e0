// Everything this machine shows of itself: probes by their cadence, conditions when something watched changes, both at once when asked. It reports nothing itself.
import type { Log } from '../../node/logging.ts'
import type { ReportedName, Sections } from '../../protocol/facts.ts'
import { watchTargets } from '../../domain/tagging/agent-rules.ts'
import { nothingToWatch } from '../../domain/tagging/device.ts'
import { sentenceFor } from '../failure.ts'
import type { DocumentStore } from '../profile/document-store.ts'
import type { TelemetryState } from '../telemetry/telemetry-state.ts'
import type { Timers } from '../../node/timers.ts'
import type { Troubles } from '../troubles.ts'
import { createAnswers } from './answers.ts'
import { deviceHere } from './device-here.ts'
import type { Pictures } from './pictures.ts'
import { osTypeHere } from './portable.ts'
import { probesHere } from './probes.ts'
import { readCommand, type RunCommand } from './read.ts'
import { scheduleProbes } from './schedule.ts'
import { userFile } from './user-said.ts'
import { createWatch } from './watch.ts'

export interface ObserveOptions {
  /** Where the machine's file system begins. */
  readonly root: string
  readonly stateDirectory: string
  readonly ownerUid: number
  readonly documents: Pick<DocumentStore, 'current' | 'settings'>
  readonly telemetry: TelemetryState
  readonly pictures: Pictures
  readonly hold: (section: ReportedName, value: Sections[ReportedName] | null, changedAt?: number) => void
  /** ms, EMS clock */
  readonly now: () => number
  readonly timers: Timers
  readonly troubles: Troubles
  readonly log: Log
  readonly onDefect: (cause: unknown) => void
  /** Runs a command; the system's own unless said. */
  readonly command?: (...args: Parameters<typeof readCommand>) => Promise<string | null>
}

export interface Observed {
  /** Looks at everything, and answers every condition, now. */
  look(section?: ReportedName): Promise<void>
  rulesChanged(): void
  profileChanged(): void
  close(): Promise<void>
}

const NETWORK_SECONDS = 5
/** A file system without events, a directory that was moved: the net below the events. */
const RECHECK_MS = 60_000

export function observeMachine(options: ObserveOptions): Observed {
  const { root, stateDirectory, documents, telemetry, hold, now, timers, troubles, log, onDefect, command = readCommand } = options
  const processes = osTypeHere() === 'linux'
  const commands = new AbortController()
  const run: RunCommand = (file, args, timeoutMs) => command(file, args, timeoutMs, commands.signal)
  let closed = false

  const answer = createAnswers({
    device: deviceHere({ root, ownerUid: options.ownerUid, run, now, timers }), rules: () => documents.current('rules'), previous: telemetry.answers, processes, now, timers,
    async onAnswers(answers, changedAt) {
      hold('verdicts', { answers }, changedAt)
      if (!closed && JSON.stringify(answers) !== JSON.stringify(telemetry.answers())) await telemetry.keep({ answers })
    },
  })
  const schedule = scheduleProbes({
    probes: probesHere({
      root, stateDirectory, ownerUid: options.ownerUid, pictures: options.pictures, run, now, maySet: () => documents.settings().userMaySet,
      onUnreadable: (cause) => (cause === null ? troubles.clear('user') : troubles.raise('user', `What "agent set" keeps can not be read, so only the account is reported: ${sentenceFor(cause)}`)),
    }),
    everySeconds: (cadence) => (cadence === 'network' ? NETWORK_SECONDS : documents.settings().cadenceSeconds[cadence]),
    onFound: (section, value) => hold(section, value), timers, clock: () => performance.now(), log, onDefect,
  })
  const watch = createWatch({
    root, processes, timers,
    onChange({ kind, name }) {
      const noticedAt = now()
      log.debug({ event: 'change-noticed', kind, name }, 'Something watched has changed.')
      if (kind === 'file' && name === userFile(stateDirectory)) schedule.look('user').catch(onDefect)
      else answer(noticedAt).catch(onDefect)
    },
  })
  function retarget(): void {
    const rules = documents.current('rules')
    const targets = rules === null ? nothingToWatch : watchTargets(rules)
    watch.retarget({ ...targets, files: [...targets.files, userFile(stateDirectory)] })
  }
  let cancelRecheck = () => {}
  const recheckLater = (): void => {
    cancelRecheck = timers.after(RECHECK_MS, () => {
      answer().catch(onDefect)
      recheckLater()
    })
  }

  retarget()
  recheckLater()
  return {
    async look(section) {
      await Promise.all([schedule.look(section), ...(section === undefined ? [answer()] : [])])
    },
    rulesChanged() {
      retarget()
      answer().catch(onDefect)
    },
    profileChanged() {
      schedule.rearm()
      schedule.look('user').catch(onDefect)
    },
    async close() {
      closed = true
      watch.close()
      cancelRecheck()
      commands.abort()
      await schedule.close()
    },
  }
}
