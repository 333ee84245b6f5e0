// Operations that anybody may call. They reveal nothing about endpoints or gateways.
import { z } from 'zod'
import { operation } from '../operation.ts'
import { certificatePem, csrPem } from '../certificates.ts'
import { signedDocument } from '../documents.ts'
import { osType } from '../facts.ts'
import { protocolVersion, uid } from '../ids.ts'
import { line, sha256Hex } from '../text.ts'

export const health = operation({
  id: 'health', method: 'GET', path: '/api/v1/health', caller: 'nobody', summary: 'Whether the EMS answers and its database does.',
  reply: z.object({ ok: z.literal(true), emsTime: z.number().int() }),
})
/** The agent's or gateway's first request: the EMS proves that it holds the pinned CA before it is told anything. */
export const introduce = operation({
  id: 'introduce', method: 'POST', path: '/api/v1/introduce', caller: 'nobody', summary: 'Prove that this EMS holds its CA.',
  body: z.strictObject({
    challenge: sha256Hex,
    /** The CA that the caller has pinned: after a roll-over, the one to prove. Absent: the active one. */
    pin: sha256Hex.optional(),
  }),
  reply: z.object({ document: signedDocument }),
})
export const enrol = operation({
  id: 'enrol', method: 'POST', path: '/api/v1/endpoint/enrol', caller: 'nobody', summary: 'Spend an invitation: become an endpoint with a UID and a certificate.',
  body: z.strictObject({ invitation: z.string().regex(/^[A-Za-z0-9_-]{43}$/), csr: csrPem, hostName: line(253), os: osType, agentVersion: line(32), protocol: protocolVersion }),
  reply: z.object({
    uid, certificate: certificatePem, authorities: signedDocument,
    licence: signedDocument, profile: signedDocument.nullable(), rules: signedDocument,
    emsTime: z.number().int(),
  }),
})
