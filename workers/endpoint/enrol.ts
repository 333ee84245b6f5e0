// Enrolment: an invitation becomes a UID, a certificate, a seat and the first documents.
import { enrol } from '../../protocol/operations/public.ts'
import { gatesFor } from '../../domain/version/gate.ts'
import { Fault } from '../../protocol/faults.ts'
import { handle } from '../http/mount.ts'
import { authoritiesDocument, standingDocuments } from '../flows/documents.ts'
import { enrolEndpoint } from '../flows/enrol.ts'
import { ensureDefaults } from '../flows/first-use.ts'

export const enrolRoute = handle(enrol, {
  async run(context, { body }) {
    const gates = gatesFor(body.protocol)
    if (!gates.certificates) throw new Fault('invalid', `This agent is too old: ${gates.missing.join('; ')}.`)
    const { endpoint, certificate } = await enrolEndpoint(context, body)
    await ensureDefaults(context)
    const documents = await standingDocuments(context, endpoint, { profile: 0, rules: 0, licence: 0, authorities: Number.MAX_SAFE_INTEGER })
    const kind = (name: string) => documents.find((jws) => jwsType(jws) === `sallyport-${name}+jws`)
    const [licence, rules] = [kind('licence'), kind('rules')]
    if (licence === undefined || rules === undefined) throw new Error('the standing documents are incomplete')
    return { uid: endpoint.uid, certificate, authorities: await authoritiesDocument(context, endpoint.uid), licence, profile: kind('profile') ?? null, rules, emsTime: context.now() }
  },
})

const jwsType = (jws: string): unknown => (JSON.parse(atob((jws.split('.')[0] ?? '').replaceAll('-', '+').replaceAll('_', '/'))) as { typ?: unknown }).typ
