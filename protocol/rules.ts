// Tagging rules as administrators write them and as agents receive them. What a condition type means is in domain/tagging.
import { z } from 'zod'
import { osType, reportedName } from './facts.ts'
import { uuid } from './ids.ts'
import { instant, line, lineOrEmpty } from './text.ts'

/**
 * One condition of a rule set. Its other members depend on `type` and are checked by the registry of
 * condition types; a type that is not registered is refused, never ignored.
 */
export const condition = z.looseObject({
  type: z.string().regex(/^[a-z][a-z0-9-]{1,40}$/),
  /** The per-rule NOT: unknown stays unknown. */
  negate: z.boolean().default(false),
  /** Only what is proved counts; what the device merely claims is unknown. */
  proved: z.boolean().optional(),
  /** What the EMS took longer ago is unknown. */
  notOlderThanSeconds: z.number().int().min(1).max(315_360_000).optional(),
})
export type Condition = z.infer<typeof condition>

/** Conditions for one OS. `logic` numbers them from 1: `1 and (2 or not 3)`; absent means all of them. */
export const osRules = z.strictObject({
  conditions: z.array(condition).min(1).max(32),
  logic: line(512).optional(),
})
export type OsRules = z.infer<typeof osRules>

/** A tag name: letters, digits, space and `-_.:` so that it can be written in policies, sets and headers. */
export const tagName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9 _.:-]{0,62}$/, 'letters, digits, space and -_.: only, 63 at most')

export const ruleSetMode = z.enum(['enforce', 'shadow'])

const ruleSetFields = {
  name: line(128),
  enabled: z.boolean().default(true),
  /** "Tag endpoint as": several rule sets may give the same tag; it is present when any of them holds. */
  tag: tagName,
  /** Said to the user whose device fails it: what to mend. */
  message: lineOrEmpty(512).default(''),
  comment: lineOrEmpty(512).default(''),
  /** `shadow`: report-only. It is worked out, explained and counted, and gives its tag to nobody. */
  mode: ruleSetMode.default('enforce'),
  /** After an edit: how long an endpoint's old verdict stands while its agent owes an answer to what is asked anew; then it is unknown. 0: at once. */
  transitionSeconds: z.number().int().min(0).max(86_400).default(60),
  /** An OS that is absent here never gets the tag from this rule set. */
  rules: z.partialRecord(osType, osRules).refine((r) => Object.keys(r).length > 0, 'name at least one OS'),
}
export const ruleSetInput = z.strictObject(ruleSetFields)
/** `packId`: it came with a pack, and is changed by importing that anew. */
export const ruleSet = z.object({ id: uuid, tagUid: uuid, packId: uuid.optional(), ...ruleSetFields })
export type RuleSetInput = z.infer<typeof ruleSetInput>
export type RuleSet = z.infer<typeof ruleSet>

export const tagPresence = z.enum(['present', 'absent', 'unknown'])
export type TagPresence = z.infer<typeof tagPresence>
/**
 * What a rule set would change for one endpoint and tag: `clears`: unknown becomes absent; `owes`: nobody knows until its agent has
 * answered, and if it does not the tag becomes unknown.
 */
export const dryRunChange = z.enum(['gains', 'loses', 'clears', 'unknown', 'owes'])
export type DryRunChange = z.infer<typeof dryRunChange>

/** An agent-side condition as sent to agents: answered under `key` in the `verdicts` section. */
export const agentCondition = z.strictObject({ key: z.string(), condition })
/** No agent is asked to look at a section anew, and to say so, for rules that want it fresher than this. */
export const LEAST_FRESH_SECONDS = 60
/** The body of the signed `rules` document. */
export const agentRules = z.object({
  revision: z.number().int().min(0), conditions: z.array(agentCondition).max(1000),
  /** Sections that rules want to be known within so many seconds: looked at again in half that time at most, and confirmed where they are unchanged. */
  fresh: z.partialRecord(reportedName, z.number().int().min(LEAST_FRESH_SECONDS)).optional(),
})
export type AgentRules = z.infer<typeof agentRules>

/** Types of Zero Trust tags, numbered as the fabric wire does (our reading of the published order). */
export const tagTypes = { 1: 'zero-trust', 2: 'outbreak', 3: 'classification', 4: 'fabric' } as const
export const tagType = z.union([z.literal(1), z.literal(2), z.literal(3), z.literal(4)])
export const tag = z.object({ uid: uuid, name: tagName, type: tagType, description: lineOrEmpty(512), createdAt: instant })
export type Tag = z.infer<typeof tag>
/** The types that are set; the others are given by rules alone. */
export const assignableType = z.union([z.literal(3), z.literal(4)])

/** How much an endpoint matters: a classification of which each endpoint bears one at most. */
export const importance = z.enum(['low', 'medium', 'high', 'critical'])
export type Importance = z.infer<typeof importance>
// Fixed UIDs: two first settings at once make one tag of each.
export const importanceTags = {
  low: '00000000-0000-4000-8000-000000000101', medium: '00000000-0000-4000-8000-000000000102', high: '00000000-0000-4000-8000-000000000103', critical: '00000000-0000-4000-8000-000000000104',
} as const satisfies Record<Importance, string>
/** Their names in policies: `importance:critical`. */
export const importanceName = (level: Importance): string => `importance:${level}`

/** Who set a tag, why, when, and until when it holds; null: until it is cleared. */
export const assignment = z.object({ tagUid: uuid, source: line(64), reason: lineOrEmpty(256), at: instant, until: instant.nullable() })
export type Assignment = z.infer<typeof assignment>
/** Endpoints on which one call sets a tag; who has more calls again. */
export const MOST_UIDS = 200

/** Present or unknown for one endpoint; absent tags are not listed. */
export const tagState = z.object({
  tagUid: uuid,
  state: z.enum(['present', 'unknown']),
  /** The earliest instant at which this could change without a new fact. */
  validUntil: instant.nullable(),
})
export type TagState = z.infer<typeof tagState>

/** Why an endpoint has a tag or has it not: for users, administrators and block pages. */
export const conditionExplanation = z.object({
  type: z.string(), negate: z.boolean(), value: z.enum(['true', 'false', 'unknown', 'unsupported']),
  seen: z.string(), wanted: z.string(), section: z.string(),
  /** Age of the fact; null when there is none. */
  factAt: instant.nullable(), provenance: z.enum(['claimed', 'proved']).nullable(),
  mend: z.string(),
})
export type ConditionExplanation = z.infer<typeof conditionExplanation>
export const tagExplanation = z.object({
  tagUid: uuid, tag: tagName, state: z.enum(['present', 'absent', 'unknown']), validUntil: instant.nullable(),
  /** It is bad to bear: `mend` says how to be rid of it, and the message is for those who may bear it. */
  outbreak: z.literal(true).optional(),
  ruleSets: z.array(z.object({
    id: uuid, name: z.string(), value: z.enum(['true', 'false', 'unknown']), logic: z.string(), message: z.string(),
    conditions: z.array(conditionExplanation),
    /** Report-only: what it finds gives no tag. */
    shadow: z.literal(true).optional(),
    /** The rules were edited and the agent has yet to answer: `value` is what was found before, and stands until then at most. */
    standsUntil: instant.optional(),
  })),
  /** Where report-only rule sets would give this tag too: what it would be if they were enforced. */
  shadow: tagPresence.optional(),
  /** Of a tag that is set: who set it, the last first, with what has ended since; empty: nobody has. Absent: only rules give that tag. */
  assigned: z.array(assignment.omit({ tagUid: true })).optional(),
})
export type TagExplanation = z.infer<typeof tagExplanation>
