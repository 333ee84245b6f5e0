// An endpoint's certificates: its own renewed, and one for a user's browser.
import { browserCertificate, renew } from '../../protocol/operations/endpoint.ts'
import { certify } from '../flows/certificates.ts'
import { authoritiesDocument } from '../flows/documents.ts'
import { handle, type Route } from '../http/mount.ts'

export const certificateRoutes: Route[] = [
  handle(renew, {
    async run(context, { body }) {
      const certificate = await certify(context, context.caller.uid, body.csr, { purpose: 'agent', osUser: '' }, context.caller.signed.serial)
      return { certificate, authorities: await authoritiesDocument(context, context.caller.uid) }
    },
  }),
  handle(browserCertificate, {
    run: async (context, { body }) => ({ certificate: await certify(context, context.caller.uid, body.csr, { purpose: 'browser', osUser: body.user }, context.caller.signed.serial) }),
  }),
]
