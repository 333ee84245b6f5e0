// What a type of condition is: one file in conditions/ and one line in the registry.
import type { z } from 'zod'
import type { Fact, Facts, OsType, SectionName, VerdictValue } from '../../protocol/facts.ts'
import type { Device, WatchTargets } from './device.ts'

/** What a condition found, before its NOT. */
export interface Finding {
  readonly value: VerdictValue
  /** For people: what was seen. */
  readonly seen: string
  /** ms: the earliest instant at which this could change without a new fact; null: never. */
  readonly validUntil: number | null
}
/** A finding and the fact it rests on. */
export interface Verdict extends Finding {
  readonly section: SectionName
  readonly factAt: number | null
  readonly provenance: 'claimed' | 'proved' | null
  /** Why it could not be worked out, for the log: a defect of ours, or a fact that is damaged. */
  readonly failure?: string
}
/** An answer of an agent-side condition. */
export interface Observation { readonly value: VerdictValue; readonly seen: string }

interface Described<P> {
  readonly type: string
  /** Its parameters, beside `type` and `negate`. */
  readonly schema: z.ZodType<P>
  readonly os: readonly OsType[]
  /** For people: what would satisfy it. */
  wanted(params: P): string
  /** For people: what to do on the device so that it holds; with `negate`, so that it holds no longer. */
  mend(params: P, negate: boolean): string
}
/** Answered by the EMS from reported facts of one section. */
export interface EmsConditionType<P = unknown> extends Described<P> {
  readonly side: 'ems'
  readonly section: SectionName
  evaluate(params: P, fact: Fact, context: { readonly now: number; readonly facts: Facts }): Finding
}
/** Answered by the agent, because the question needs the device; the EMS reads the answer from the `verdicts` section. */
export interface AgentConditionType<P = unknown> extends Described<P> {
  readonly side: 'agent'
  readonly section: 'verdicts'
  observe(params: P, device: Device): Promise<Observation>
  watch(params: P): WatchTargets
}
export type ConditionType<P = unknown> = EmsConditionType<P> | AgentConditionType<P>

/** Declares a type and lets the registry hold types of different parameters: params reach it only through its own schema. */
export const conditionType = <P>(declared: ConditionType<P>): ConditionType => declared
