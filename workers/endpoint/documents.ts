// The standing documents that are newer than what the agent holds.
import { documents } from '../../protocol/operations/endpoint.ts'
import { standingDocuments } from '../flows/documents.ts'
import { handle } from '../http/mount.ts'

export const documentsRoute = handle(documents, {
  run: async (context, { body }) => ({ documents: await standingDocuments(context, context.caller.endpoint, body.have) }),
})
