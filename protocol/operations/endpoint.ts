// Operations of an enrolled endpoint: each request is signed with the key of its `agent` certificate.
import { z } from 'zod'
import { operation } from '../operation.ts'
import { certificatePem, csrPem } from '../certificates.ts'
import { decisionExplanation } from '../decisions.ts'
import { documentVersions, signedDocument } from '../documents.ts'
import { avatar, reportedName, reportedSections } from '../facts.ts'
import { certificateSerial, decisionId, uuid } from '../ids.ts'
import { tagExplanation } from '../rules.ts'
import { line, sha256Hex } from '../text.ts'

export const renew = operation({
  id: 'renew', method: 'POST', path: '/api/v1/endpoint/renew', caller: 'endpoint', acceptsExpired: true,
  summary: 'A new certificate for the same UID. The old one is retired by the first request signed with the new.',
  body: z.strictObject({ csr: csrPem }),
  reply: z.object({ certificate: certificatePem, authorities: signedDocument }),
})
export const browserCertificate = operation({
  id: 'browser-certificate', method: 'POST', path: '/api/v1/endpoint/browser-certificate', caller: 'endpoint',
  summary: 'A certificate for one OS user\'s browser: same UID, HTTPS services only.',
  body: z.strictObject({ csr: csrPem, user: line(256) }),
  reply: z.object({ certificate: certificatePem }),
})
/** What the EMS knows by itself or from others (scores, threats) is in none of these: a device must not report it, nor void it. */
const sectionBody = z.strictObject(reportedSections).partial()
export const report = operation({
  id: 'report', method: 'POST', path: '/api/v1/endpoint/report', caller: 'endpoint', maxBodyBytes: 2 * 1024 * 1024,
  summary: 'Posture: the sections that changed, and the hashes of all.',
  body: z.strictObject({
    /** Grows by one with each report that carries sections; repeated unchanged when a reply was lost. */
    sequence: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
    /** When the change happened on the device, ms, EMS clock as the agent knows it; for measured propagation. */
    changedAt: z.number().int().min(0).optional(),
    sections: sectionBody,
    /** SHA-256 of the canonical JSON (RFC 8785) of every section the agent holds, sent or not. */
    hashes: z.partialRecord(reportedName, sha256Hex),
    /** Sections that the machine no longer tells: what the EMS held of them is void, and unknown passes no rule. Counts as carrying sections. */
    unknown: z.array(reportedName).max(reportedName.options.length).optional(),
    /** Sections that were looked at again and are as `hashes` has them, each with the instant of that look (ms, EMS clock): those that the `rules` document wants fresh. They carry nothing and take no sequence. */
    confirmed: z.partialRecord(reportedName, z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)).optional(),
  }),
  reply: z.object({
    sequence: z.number().int(),
    /** Sections whose hash the EMS does not hold: send them in the next report. */
    wanted: z.array(reportedName),
    /** Versions of the standing documents; newer than yours: fetch them. */
    documents: documentVersions,
    /** Serials of the endpoint's browser certificates that are good: whoever holds another replaces it, for it was revoked. */
    browserCertificates: z.array(certificateSerial).optional(),
    emsTime: z.number().int(),
  }),
})
export const documents = operation({
  id: 'documents', method: 'POST', path: '/api/v1/endpoint/documents', caller: 'endpoint',
  summary: 'The standing documents newer than those the agent holds.',
  body: z.strictObject({ have: documentVersions }),
  reply: z.object({ documents: z.array(signedDocument) }),
})
export const putAvatar = operation({
  id: 'put-avatar', method: 'PUT', path: '/api/v1/endpoint/avatar', caller: 'endpoint', maxBodyBytes: 80 * 1024,
  summary: 'The user\'s picture. Its fingerprint is then reported in the user section.',
  body: avatar, reply: z.object({ fingerprint: sha256Hex }),
})
export const ownTags = operation({
  id: 'own-tags', method: 'GET', path: '/api/v1/endpoint/tags', caller: 'endpoint',
  summary: 'The endpoint\'s own tags, each with what was seen and what was wanted.',
  reply: z.object({ tags: z.array(tagExplanation) }),
})
export const ownTag = operation({
  id: 'own-tag', method: 'GET', path: '/api/v1/endpoint/tags/{tag}', caller: 'endpoint', summary: 'Why this endpoint has one tag, or has it not.',
  params: z.object({ tag: uuid }), reply: tagExplanation,
})
export const ownDecision = operation({
  id: 'own-decision', method: 'GET', path: '/api/v1/endpoint/decisions/{id}', caller: 'endpoint', summary: 'A decision about this endpoint, explained.',
  params: z.object({ id: decisionId }), reply: decisionExplanation,
})
/** The endpoint channel. It begins with a challenge; see protocol/channel.ts. */
export const channel = operation({
  id: 'channel', method: 'GET', path: '/api/v1/endpoint/channel', caller: 'endpoint', surface: 'socket',
  summary: 'The endpoint channel (websocket).', reply: z.undefined(),
})
