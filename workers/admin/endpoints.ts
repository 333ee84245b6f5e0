// Endpoints as administrators see them, and what they may do with one.
import { asc, eq, gt } from 'drizzle-orm'
import { flappingSince, readTagChanges } from '../../domain/tagging/flapping.ts'
import type { CertificateRecord } from '../../protocol/certificates.ts'
import { Fault } from '../../protocol/faults.ts'
import { checkNow, deregisterEndpoint, explainDecision, explainTag, listEndpoints, readEndpoint, revokeCertificate, setOwnership } from '../../protocol/operations/admin.ts'
import type { TagState } from '../../protocol/rules.ts'
import { endpoints, type EndpointRow } from '../../schema/endpoint.ts'
import type { Context } from '../context.ts'
import { revokeCertificate as revoke } from '../flows/certificates.ts'
import { changeEndpoint } from '../flows/change-endpoint.ts'
import { deregister } from '../flows/deregister.ts'
import { explainOneTag } from '../flows/explain.ts'
import { explainOneDecision } from '../flows/explain-decision.ts'
import { loadFacts } from '../flows/facts.ts'
import { withoutEnded } from '../flows/signed-in.ts'
import { handle, type Route } from '../http/mount.ts'
import { pageOf } from './paging.ts'

const summary = ({ uid, hostName, os, group, registered, online, account, lastReportAt, enrolledAt, tags, tagChanges, ownership, onFabric, fabricUntil }: EndpointRow, now: number) =>
  ({ uid, hostName, os, group, registered, online, account, lastReportAt, enrolledAt, ownership, onFabric: onFabric && (fabricUntil === null || fabricUntil > now), tags: JSON.parse(tags) as TagState[], flappingSince: flappingSince(readTagChanges(tagChanges), now) })

async function find({ db }: Context, uid: string): Promise<EndpointRow> {
  const [row] = await db.select().from(endpoints).where(eq(endpoints.uid, uid))
  if (row === undefined) throw new Fault('not_found', 'There is no such endpoint.')
  return row
}

export const endpointRoutes: Route[] = [
  handle(listEndpoints, {
    async run({ db, now }, { query: { after, limit } }) {
      const rows = await db.select().from(endpoints).where(after === undefined ? undefined : gt(endpoints.uid, after)).orderBy(asc(endpoints.uid)).limit(limit + 1)
      return pageOf(rows, limit, ({ uid }) => uid, (row) => summary(row, now()))
    },
  }),
  handle(readEndpoint, {
    async run(context, { params }) {
      const row = await find(context, params.uid)
      const facts = withoutEnded(row, await loadFacts(context.db, params.uid))
      const told = Object.entries(facts).map(([section, { at, provenance, value }]) => [section, { at, provenance, value }] as const)
      return { ...summary(row, context.now()), agentVersion: row.agentVersion, signedInBy: row.identityBy, certificates: JSON.parse(row.certificates) as CertificateRecord[], facts: Object.fromEntries(told) }
    },
  }),
  handle(setOwnership, {
    async run(context, { params, body: { ownership } }) {
      await changeEndpoint(context, params.uid, (endpoint) => {
        if (!endpoint.registered) throw new Fault('conflict', 'The endpoint is deregistered: its gateways are told nothing of it any more.')
        return endpoint.ownership === ownership ? 'tell-again' : { set: { ownership }, tables: ['sysinfo'] }
      })
      return { ok: true as const }
    },
  }),
  handle(deregisterEndpoint, {
    async run(context, { params, body }) {
      await deregister(context, params.uid, body.reason)
      return { ok: true as const }
    },
  }),
  handle(revokeCertificate, {
    async run(context, { params }) {
      await revoke(context, params.uid, params.serial)
      return { ok: true as const }
    },
  }),
  handle(checkNow, {
    async run(context, { params }) {
      await find(context, params.uid)
      return { told: await context.env.ENDPOINT_CHANNEL.getByName(params.uid.slice(0, 1)).push(params.uid, { type: 'report-now' }) }
    },
  }),
  handle(explainTag, {
    async run(context, { params }) {
      await find(context, params.uid)
      return await explainOneTag(context, params.uid, params.tag)
    },
  }),
  handle(explainDecision, { run: (context, { params }) => explainOneDecision(context, params.id) }),
]
