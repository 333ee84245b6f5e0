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
import { packageDatabases } from './linux/distribution-packages.ts'
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
  readonly hold: (section: ReportedName, value: Sections[ReportedName] | null, changedAt?: number, lookedAt?: number) => void
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
const INSTALLED_QUIET_MS = 2_000
/** What installing or updating a package changes. */
const installedSections = ['software', 'updates', 'vulnerabilities'] as const

export function observeMachine(options: ObserveOptions): Observed {
  const { root, stateDirectory, documents, telemetry, hold, now, timers, troubles, log, onDefect, command = readCommand } = options
  const processes = osTypeHere() === 'linux'
  const commands = new AbortController()
  const run: RunCommand = (file, args, timeoutMs) => command(file, args, timeoutMs, commands.signal)
  let closed = false

  const answer = createAnswers({
    device: deviceHere({ root, ownerUid: options.ownerUid, run, now, timers }), rules: () => documents.current('rules'), previous: telemetry.answers, processes, now, timers,
    async onAnswers(answers, changedAt, lookedAt) {
      hold('verdicts', { answers }, changedAt, lookedAt)
      if (!closed && JSON.stringify(answers) !== JSON.stringify(telemetry.answers())) await telemetry.keep({ answers })
    },
  })
  const schedule = scheduleProbes({
    probes: probesHere({
      root, stateDirectory, ownerUid: options.ownerUid, pictures: options.pictures, run, now, maySet: () => documents.settings().userMaySet,
      onUnreadable: (cause) => (cause === null ? troubles.clear('user') : troubles.raise('user', `What "agent set" keeps can not be read, so only the account is reported: ${sentenceFor(cause)}`)),
    }),
    everySeconds: (cadence) => (cadence === 'network' ? NETWORK_SECONDS : documents.settings().cadenceSeconds[cadence]),
    onFound: (section, value, tookMs) => hold(section, value, undefined, now() - tookMs), timers, clock: () => performance.now(), log, onDefect,
  })
  const databases = packageDatabases(root)
  let cancelInventory = () => {}
  /** An update of many packages writes its database all the time: it is looked at when that is over. */
  function inventoryLater(): void {
    cancelInventory()
    if (closed) return
    cancelInventory = timers.after(INSTALLED_QUIET_MS, () => { for (const section of installedSections) schedule.look(section).catch(onDefect) })
  }
  const watch = createWatch({
    root, processes, timers,
    onChange({ kind, name }) {
      const noticedAt = now()
      log.debug({ event: 'change-noticed', kind, name }, 'Something watched has changed.')
      if (kind === 'file' && name === userFile(stateDirectory)) return void schedule.look('user').catch(onDefect)
      if (kind === 'file' && databases.includes(name)) inventoryLater()
      // A rule may ask for that very file.
      if (kind !== 'file' || asked.files.includes(name)) answer(noticedAt).catch(onDefect)
    },
  })
  let asked = nothingToWatch
  function retarget(): void {
    const rules = documents.current('rules')
    asked = rules === null ? nothingToWatch : watchTargets(rules)
    watch.retarget({ ...asked, files: [...new Set([...asked.files, ...databases, userFile(stateDirectory)])] })
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
      await Promise.all([schedule.look(section), ...(section === undefined || section === 'verdicts' ? [answer()] : [])])
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
      cancelInventory()
      commands.abort()
      await schedule.close()
    },
  }
}
