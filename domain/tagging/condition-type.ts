// What a type of condition is: one file in conditions/ and one line in the registry.
import type { z } from 'zod'
import type { Fact, Facts, OsType, SectionName, VerdictValue } from '../../protocol/facts.ts'
import type { Device, WatchTargets } from './device.ts'
import type { Timed } from './logic.ts'

/** What a condition found, before its NOT. */
export interface Finding {
  readonly value: VerdictValue
  /** For people: what was seen. */
  readonly seen: string
  /** ms: the earliest instant at which this could change without a new fact; null: never. */
  readonly validUntil: number | null
  /** ms: when the very fact was known, where that is not when its section was taken. */
  readonly factAt?: number
  /** How the very fact is known, where that is not how its section is. */
  readonly provenance?: 'claimed' | 'proved'
}
/** A finding and the fact it rests on. */
export interface Verdict extends Omit<Finding, 'factAt' | 'provenance'> {
  readonly section: SectionName | 'tags'
  readonly factAt: number | null
  readonly provenance: 'claimed' | 'proved' | null
  /** Why it could not be worked out, for the log: a defect of ours, or a fact that is damaged. */
  readonly failure?: string
  /** What the condition demands of its fact beside the value and does not get: what to do about it. */
  readonly unmet?: string
}
/** An answer of an agent-side condition. */
export interface Observation { readonly value: VerdictValue; readonly seen: string }
/** Whether the endpoint has a tag, by its name; null: there is no such tag. */
export type TagsNow = (name: string) => Timed | null

interface Described<P> {
  readonly type: string
  /** Its parameters, beside `type`, `negate` and what every condition may demand of its fact. Its issues name the place. */
  readonly schema: z.ZodType<P>
  readonly os: readonly OsType[]
  /** For people: what would satisfy it. */
  wanted(params: P): string
  /** For people: what to do on the device so that it holds; with `negate`, so that it holds no longer. */
  mend(params: P, negate: boolean): string
}
/** Answered by the EMS from stored facts. */
export interface EmsConditionType<P = unknown> extends Described<P> {
  readonly side: 'ems'
  /** The section it reads, or those by its parameters; while one of them is missing it is unknown. */
  readonly section: SectionName | { by(params: P): readonly [SectionName, ...SectionName[]] }
  /** The EMS keeps it up to date and ends it: why nothing can be demanded of its age. */
  readonly ageless?: string
  /** For people: what it means that the section is not there, where that means something of its own; null: it does not. */
  missing?(params: P): string | null
  /** @param fact of the first section */
  evaluate(params: P, fact: Fact, context: { readonly now: number; readonly facts: Facts }): Finding
}
/** Answered by the agent, because the question needs the device; the EMS reads the answer from the `verdicts` section. */
export interface AgentConditionType<P = unknown> extends Described<P> {
  readonly side: 'agent'
  /** @param now ms, EMS clock */
  observe(params: P, device: Device, now: number): Promise<Observation>
  watch(params: P): WatchTargets
}
/** Answered from other tags of the same endpoint. */
export interface TagConditionType<P = unknown> extends Described<P> {
  readonly side: 'tags'
  tags(params: P): readonly string[]
  evaluate(params: P, tags: TagsNow): Finding
}
export type ConditionType<P = unknown> = EmsConditionType<P> | AgentConditionType<P> | TagConditionType<P>

/** Declares a type and lets the registry hold types of different parameters: params reach it only through its own schema. */
export const conditionType = <P>(declared: ConditionType<P>): ConditionType => declared

/** The sections that a condition reads. */
export const sectionsOf = (type: ConditionType, params: unknown): readonly SectionName[] =>
  (type.side === 'agent' ? ['verdicts'] : type.side === 'tags' ? [] : typeof type.section === 'string' ? [type.section] : type.section.by(params))
