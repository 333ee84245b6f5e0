// What a probe is: one section of the posture, read when asked. A probe never guesses: what it can't see is absent or `unknown`.
import type { ReportedName, Sections } from '../../protocol/facts.ts'

/** How often a probe looks again: `network` every few seconds, the others as the profile says. */
export type Cadence = 'network' | 'security' | 'inventory'

export interface Probe<S extends ReportedName = ReportedName> {
  readonly section: S
  readonly cadence: Cadence
  /** Slow probes run beside the others and never hold up a first report. */
  readonly slow?: boolean
  /** null: this machine does not tell, and the section stays missing (unknown). */
  collect(): Promise<Sections[S] | null>
}

/** Declares a probe; the list of probes holds sections of different shapes. */
export const probe = <S extends ReportedName>(declared: Probe<S>): Probe => declared
