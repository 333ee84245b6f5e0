// Where an agent keeps what it must not forget: one directory, readable by its owner only.
import { join } from 'node:path'
import { z } from 'zod'
import { certificatePem } from '../protocol/certificates.ts'
import { signedDocument } from '../protocol/documents.ts'
import { sections } from '../protocol/facts.ts'
import { uid } from '../protocol/ids.ts'

/** Who this device is to its EMS. */
export const enrolment = z.strictObject({ ems: z.url(), pin: z.string(), uid, certificate: certificatePem, tlsCa: z.array(z.string()), ownerUid: z.number().int() })
export type Enrolment = z.infer<typeof enrolment>
/** The standing documents as received; each is verified again when it is read. */
export const heldDocuments = z.strictObject({ profile: signedDocument, rules: signedDocument, licence: signedDocument, authorities: signedDocument }).partial()
export type HeldDocuments = z.infer<typeof heldDocuments>
/** What the EMS acknowledged: the last sequence, the hash of each section, and the answers to its conditions. */
export const reported = z.strictObject({ sequence: z.number().int(), hashes: z.record(z.string(), z.string()), answers: sections.verdicts.shape.answers })
export type Reported = z.infer<typeof reported>

/** Names of the files in a state directory. */
export const filesIn = (directory: string) => ({
  enrolment: join(directory, 'enrolment.json'), key: join(directory, 'agent.key'), nextKey: join(directory, 'agent-next.key'),
  documents: join(directory, 'documents.json'), reported: join(directory, 'reported.json'),
})
