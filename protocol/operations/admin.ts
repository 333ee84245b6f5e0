// Operations of administrators. For now every administrator holds the bootstrap token; roles come with people.
import { z } from 'zod'
import { operation } from '../operation.ts'
import { certificateRecord } from '../certificates.ts'
import { decisionExplanation } from '../decisions.ts'
import { sectionName } from '../facts.ts'
import { gatewayState, shareMode } from '../fabric/joining.ts'
import { fabricPlace } from '../fabric/place.ts'
import { certificateSerial, decisionId, gatewaySerial, uid, uuid } from '../ids.ts'
import { ownership } from '../ownership.ts'
import { endpointPolicy, endpointPolicyInput, licence, licenceInput, profile, profileInput } from '../profile.ts'
import { dryRunChange, ruleSet, ruleSetInput, tag, tagExplanation, tagPresence, tagState } from '../rules.ts'
import { instant, line, lineOrEmpty } from '../text.ts'

const done = z.object({ ok: z.literal(true) })
const caller = 'administrator' as const
/** Lists are read by cursor: hand back `next` until it is null. */
const listQuery = z.object({ after: z.string().max(128).optional(), limit: z.coerce.number().int().min(1).max(200).default(50) })
const listOf = <T extends z.ZodType>(item: T) => z.object({ items: z.array(item), next: z.string().nullable() })
const byId = z.object({ id: uuid })

const invitation = z.object({
  id: uuid, name: z.string(), uses: z.number().int(), used: z.number().int(), group: z.string(), expiresAt: instant, createdAt: instant,
  ownership: ownership.nullable(),
})
export const createInvitation = operation({
  id: 'create-invitation', method: 'POST', path: '/api/v1/admin/invitations', caller, summary: 'Invite endpoints. The code is shown once.',
  body: z.strictObject({
    name: line(128), uses: z.number().int().min(1).max(100_000).default(1),
    expiresInSeconds: z.number().int().min(60).max(31_536_000).default(86_400),
    /** The group that endpoints enrolled by it belong to. */
    group: lineOrEmpty(128).default(''),
    /** Whose devices enrol by it; null: it is not said, and policies that ask for it refuse them until it is. */
    ownership: ownership.nullable().default(null),
  }),
  /** `text` is what an agent takes: EMS address, CA pin and code in one string. */
  reply: invitation.extend({ text: z.string() }),
})
export const listInvitations = operation({ id: 'list-invitations', method: 'GET', path: '/api/v1/admin/invitations', caller, summary: 'Invitations, newest first.', query: listQuery, reply: listOf(invitation) })
export const withdrawInvitation = operation({
  id: 'withdraw-invitation', method: 'DELETE', path: '/api/v1/admin/invitations/{id}', caller, summary: 'Nobody enrols with it any more; who has, stays.', params: byId, reply: done,
})

const endpointSummary = z.object({
  uid, hostName: z.string(), os: z.string(), group: z.string(), registered: z.boolean(), online: z.boolean(), account: z.string(),
  lastReportAt: instant.nullable(), enrolledAt: instant, tags: z.array(tagState),
  /** Whose device it is, as administrators said; null: nobody has. */
  ownership: ownership.nullable(),
  /** A marked gateway sees it, or did a moment ago. */
  onFabric: z.boolean(),
  /** Since when its tags change again and again; null: they do not. */
  flappingSince: instant.nullable(),
})
export const listEndpoints = operation({ id: 'list-endpoints', method: 'GET', path: '/api/v1/admin/endpoints', caller, summary: 'Endpoints, by UID.', query: listQuery, reply: listOf(endpointSummary) })
export const readEndpoint = operation({
  id: 'read-endpoint', method: 'GET', path: '/api/v1/admin/endpoints/{uid}', caller, summary: 'One endpoint with its certificates and facts.', params: z.object({ uid }),
  reply: endpointSummary.extend({
    agentVersion: z.string(), certificates: z.array(certificateRecord),
    /** The identity provider by whose word somebody is signed in, in time or not; null: nobody is. The user is the fact `identity`. */
    signedInBy: z.string().nullable(),
    /** `proved`: the EMS knows it by itself or from others that it trusts; `claimed`: the device says so. */
    facts: z.partialRecord(sectionName, z.object({ at: instant, provenance: z.enum(['claimed', 'proved']), value: z.unknown() })),
  }),
})
export const setOwnership = operation({
  id: 'set-ownership', method: 'PUT', path: '/api/v1/admin/endpoints/{uid}/ownership', caller, summary: 'Say whose device an endpoint is; its gateways have been told when this is answered.',
  params: z.object({ uid }), body: z.strictObject({ ownership: ownership.nullable() }), reply: done,
})
export const deregisterEndpoint = operation({
  id: 'deregister-endpoint', method: 'POST', path: '/api/v1/admin/endpoints/{uid}/deregister', caller, summary: 'End management: the seat is freed, certificates are revoked, the agent lets go.',
  params: z.object({ uid }), body: z.strictObject({ reason: lineOrEmpty(256).default('') }), reply: done,
})
export const revokeCertificate = operation({
  id: 'revoke-certificate', method: 'POST', path: '/api/v1/admin/endpoints/{uid}/certificates/{serial}/revoke', caller, summary: 'Revoke one certificate of an endpoint, at once.',
  params: z.object({ uid, serial: certificateSerial }), body: z.strictObject({}), reply: done,
})
export const checkNow = operation({
  id: 'check-now', method: 'POST', path: '/api/v1/admin/endpoints/{uid}/check-now', caller, summary: 'Ask the agent to check everything now.',
  params: z.object({ uid }), body: z.strictObject({}), reply: z.object({ told: z.boolean() }),
})
export const explainTag = operation({
  id: 'explain-tag', method: 'GET', path: '/api/v1/admin/endpoints/{uid}/tags/{tag}', caller, summary: 'Why an endpoint has a tag, or has it not.', params: z.object({ uid, tag: uuid }), reply: tagExplanation,
})

export const listRuleSets = operation({ id: 'list-rule-sets', method: 'GET', path: '/api/v1/admin/rule-sets', caller, summary: 'Tagging rule sets, by id.', query: listQuery, reply: listOf(ruleSet) })
export const createRuleSet = operation({ id: 'create-rule-set', method: 'POST', path: '/api/v1/admin/rule-sets', caller, maxBodyBytes: 128 * 1024, summary: 'Add a tagging rule set. Its tag is made when it is new.', body: ruleSetInput, reply: ruleSet })
export const replaceRuleSet = operation({ id: 'replace-rule-set', method: 'PUT', path: '/api/v1/admin/rule-sets/{id}', caller, maxBodyBytes: 128 * 1024, summary: 'Replace a tagging rule set; endpoints that it concerns are evaluated anew.', params: byId, body: ruleSetInput, reply: ruleSet })
export const deleteRuleSet = operation({ id: 'delete-rule-set', method: 'DELETE', path: '/api/v1/admin/rule-sets/{id}', caller, summary: 'Remove a rule set and what it tagged.', params: byId, reply: done })
export const readRuleSet = operation({
  id: 'read-rule-set', method: 'GET', path: '/api/v1/admin/rule-sets/{id}', caller, summary: 'One rule set, and how many endpoints it holds for.', params: byId,
  reply: ruleSet.extend({ standing: z.object({
    /** Endpoints for which it holds: they have its tag or, in a report-only rule set, would have it. */
    holds: z.number().int(), unknown: z.number().int(),
    /** Endpoints whose agent has yet to answer what decides; and of them, those whose verdict from before an edit still stands. */
    owing: z.number().int(), standing: z.number().int(),
  }) }),
})
export const ruleSetEndpoints = operation({
  id: 'rule-set-endpoints', method: 'GET', path: '/api/v1/admin/rule-sets/{id}/endpoints', caller, summary: 'Endpoints for which a rule set holds or is unknown, by UID; of a report-only one, those who would have the tag. A page may be empty and not the last.',
  params: byId, query: listQuery,
  reply: listOf(z.object({
    uid, hostName: z.string(), value: z.enum(['true', 'false', 'unknown']), validUntil: instant.nullable(),
    /** Its agent has yet to answer; until then the verdict from before the edit stands, at most to that instant. */
    owes: z.boolean(), standsUntil: instant.nullable(),
  })),
})
export const dryRunRuleSet = operation({
  id: 'dry-run-rule-set', method: 'POST', path: '/api/v1/admin/rule-sets/dry-run', caller, maxBodyBytes: 128 * 1024,
  summary: 'What a rule set would change if it were saved and enforced, over the stored facts of one page of endpoints. Writes nothing.',
  body: z.strictObject({
    ruleSet: ruleSetInput,
    /** The rule set that it is an edit of; null: it is new. */
    replaces: uuid.nullable().default(null),
    /** It stands in a pack: one that came with a pack is replaced by a newer version of that, and by nothing else. */
    inPack: z.boolean().default(false),
    /** The page after this UID: `next` of the page before. */
    after: uid.optional(),
  }),
  reply: z.object({
    items: z.array(z.object({ uid, hostName: z.string(), tag: z.string(), before: tagPresence, after: tagPresence, change: dryRunChange })),
    /** Endpoints of this page. */
    examined: z.number().int(),
    /** Endpoints in all; told with the first page. */
    total: z.number().int().nullable(),
    next: uid.nullable(),
  }),
})
export const reEvaluation = operation({
  id: 're-evaluation', method: 'GET', path: '/api/v1/admin/re-evaluation', caller, summary: 'How far the last edit of the rules has come.',
  reply: z.object({
    /** Revision of the rules, and the one that every endpoint is evaluated with. */
    revision: z.number().int(), evaluatedRevision: z.number().int(), running: z.boolean(),
    /** Endpoints that were behind when it began, and how many of them are done. */
    total: z.number().int(), done: z.number().int(), since: instant.nullable(),
    /** Endpoints that could not be evaluated and wait to be tried again; the log says why. */
    aside: z.number().int(),
  }),
})
export const listTags = operation({ id: 'list-tags', method: 'GET', path: '/api/v1/admin/tags', caller, summary: 'Tags of every type, by UID.', query: listQuery, reply: listOf(tag) })

export const listProfiles = operation({ id: 'list-profiles', method: 'GET', path: '/api/v1/admin/profiles', caller, summary: 'Profiles, by id.', query: listQuery, reply: listOf(profile) })
export const createProfile = operation({ id: 'create-profile', method: 'POST', path: '/api/v1/admin/profiles', caller, maxBodyBytes: 256 * 1024, summary: 'Add a profile.', body: profileInput, reply: profile })
export const replaceProfile = operation({ id: 'replace-profile', method: 'PUT', path: '/api/v1/admin/profiles/{id}', caller, maxBodyBytes: 256 * 1024, summary: 'Replace a profile; agents that have it are told.', params: byId, body: profileInput, reply: profile })
export const deleteProfile = operation({ id: 'delete-profile', method: 'DELETE', path: '/api/v1/admin/profiles/{id}', caller, summary: 'Remove a profile that no policy names.', params: byId, reply: done })
export const listPolicies = operation({ id: 'list-endpoint-policies', method: 'GET', path: '/api/v1/admin/endpoint-policies', caller, summary: 'Endpoint policies, in order.', query: listQuery, reply: listOf(endpointPolicy) })
export const createPolicy = operation({ id: 'create-endpoint-policy', method: 'POST', path: '/api/v1/admin/endpoint-policies', caller, summary: 'Add an endpoint policy.', body: endpointPolicyInput, reply: endpointPolicy })
export const replacePolicy = operation({ id: 'replace-endpoint-policy', method: 'PUT', path: '/api/v1/admin/endpoint-policies/{id}', caller, summary: 'Replace an endpoint policy.', params: byId, body: endpointPolicyInput, reply: endpointPolicy })
export const deletePolicy = operation({ id: 'delete-endpoint-policy', method: 'DELETE', path: '/api/v1/admin/endpoint-policies/{id}', caller, summary: 'Remove an endpoint policy.', params: byId, reply: done })

export const readLicence = operation({ id: 'read-licence', method: 'GET', path: '/api/v1/admin/licence', caller, summary: 'The licence, and seats taken.', reply: licence.extend({ taken: z.number().int(), document: z.string() }) })
export const issueLicence = operation({ id: 'issue-licence', method: 'PUT', path: '/api/v1/admin/licence', caller, summary: 'Issue the organisation\'s licence. Fewer seats than taken throws nobody out.', body: licenceInput, reply: licence.extend({ taken: z.number().int(), document: z.string() }) })

const gateway = z.object({
  serial: gatewaySerial, name: z.string(), state: gatewayState, reason: z.string(), fingerprint: z.string(), address: z.string(),
  shareMode, shareTagTypes: z.array(z.number().int()), selectedSerials: z.array(gatewaySerial), connected: z.boolean(), joinedAt: instant, authorisedAt: instant.nullable(),
  /** Until when a pending one may wait. */
  pendingUntil: instant.nullable(),
  isRoot: z.boolean(), vouchedBy: gatewaySerial.nullable(), vouchedUntil: instant.nullable(), certificate: z.object({ serial: certificateSerial, notAfter: instant }).nullable(),
  /** The protocol that it last spoke, and what that keeps it from; null before it spoke any. */
  protocol: z.string().nullable(), missing: z.array(z.string()),
  /** It is the fabric's own: whom it sees is on the fabric; null: nobody marked it. */
  fabric: fabricPlace.nullable(),
})
export const listGateways = operation({ id: 'list-gateways', method: 'GET', path: '/api/v1/admin/gateways', caller, summary: 'Gateways, by serial.', query: listQuery, reply: listOf(gateway) })
export const authoriseGateway = operation({ id: 'authorise-gateway', method: 'POST', path: '/api/v1/admin/gateways/{serial}/authorise', caller, summary: 'Authorise a gateway whose fingerprint was compared.', params: z.object({ serial: gatewaySerial }), body: z.strictObject({ fingerprint: z.string().max(128) }), reply: gateway })
export const deauthoriseGateway = operation({ id: 'deauthorise-gateway', method: 'POST', path: '/api/v1/admin/gateways/{serial}/deauthorise', caller, summary: 'Cut a gateway off at once.', params: z.object({ serial: gatewaySerial }), body: z.strictObject({ reason: lineOrEmpty(256).default('') }), reply: gateway })
export const setGatewayFabric = operation({
  id: 'set-gateway-fabric', method: 'PUT', path: '/api/v1/admin/gateways/{serial}/fabric', caller,
  summary: 'Mark a gateway as the fabric\'s own, so that devices which it sees are on the fabric; or end that, and whom it alone saw leaves at once.',
  params: z.object({ serial: gatewaySerial }), body: z.strictObject({ place: fabricPlace.nullable() }), reply: gateway,
})
export const createJoinCode = operation({
  id: 'create-join-code', method: 'POST', path: '/api/v1/admin/join-codes', caller, summary: 'Pre-authorise one gateway. The code is shown once.',
  body: z.strictObject({ name: line(128), expiresInSeconds: z.number().int().min(60).max(2_592_000).default(3600) }),
  reply: z.object({ id: uuid, text: z.string(), expiresAt: instant }),
})
export const explainDecision = operation({
  id: 'explain-decision', method: 'GET', path: '/api/v1/admin/decisions/{id}', caller, summary: 'A gateway\'s decision, joined with why the endpoint has or lacks the tags that decided it.',
  params: z.object({ id: decisionId }), reply: decisionExplanation,
})

const authority = z.object({ id: uuid, active: z.boolean(), pin: z.string(), certificate: z.string(), notAfter: instant, wrappingKeyId: z.string() })
export const listAuthorities = operation({ id: 'list-authorities', method: 'GET', path: '/api/v1/admin/authorities', caller, summary: 'The CAs: the active one, and those still trusted.', reply: z.object({ items: z.array(authority) }) })
export const rollAuthority = operation({ id: 'roll-authority', method: 'POST', path: '/api/v1/admin/authorities/roll', caller, summary: 'Make a new CA; the old one stays trusted until it ends.', body: z.strictObject({}), reply: authority })
export const rewrapKeys = operation({ id: 'rewrap-keys', method: 'POST', path: '/api/v1/admin/authorities/rewrap', caller, summary: 'Encrypt stored keys under the current wrapping key.', body: z.strictObject({}), reply: z.object({ rewrapped: z.number().int() }) })
