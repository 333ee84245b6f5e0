// What the endpoint channel does to the records: presence, written when it changes and told to the gateways like any other change; and documents that an agent lacks.
import { eq } from 'drizzle-orm'
import { documentKind, type DocumentKind, type DocumentVersions } from '../../protocol/documents.ts'
import { Fault } from '../../protocol/faults.ts'
import { endpoints } from '../../schema/endpoint.ts'
import { makeContext } from '../context.ts'
import { readConfig, type Env } from '../env.ts'
import { changeEndpoint } from './change-endpoint.ts'
import { readAuthorities, signAuthorities, standingDocuments } from './documents.ts'

export interface InObject { readonly env: Env; waitUntil(promise: Promise<unknown>): void }
const contextOf = ({ env, waitUntil }: InObject) => makeContext(env, readConfig(env), new Request('https://object/'), { waitUntil })

/** Writes whether an endpoint is online; one that is so already, or is no longer managed, costs no row. One that does not exist is left so. */
export async function setOnline(inObject: InObject, uid: string, online: boolean): Promise<void> {
  try {
    await changeEndpoint(contextOf(inObject), uid, (endpoint) => (endpoint.online === online || (online && !endpoint.registered) ? null : { set: { online }, tables: ['sysinfo'] }))
  } catch (cause) {
    if (!(cause instanceof Fault && cause.code === 'not_found')) throw cause
  }
}

/** The standing documents newer than the agent's; null when it is no longer managed. */
export async function newerDocuments(inObject: InObject, uid: string, have: DocumentVersions): Promise<{ kind: DocumentKind; document: string }[] | null> {
  const context = contextOf(inObject)
  const [endpoint] = await context.db.select().from(endpoints).where(eq(endpoints.uid, uid))
  if (endpoint === undefined || !endpoint.registered) return null
  return (await standingDocuments(context, endpoint, have)).flatMap((document) => {
    const kind = kindOf(document)
    return kind === null ? [] : [{ kind, document }]
  })
}

/** Signs the list of CAs and of revoked certificates of gateways for one agent after the other; it is read once. */
export async function authoritiesSigner(inObject: InObject): Promise<(uid: string) => Promise<string>> {
  const context = contextOf(inObject)
  const authorities = await readAuthorities(context)
  return (uid) => signAuthorities(context, uid, authorities)
}

/** The kind that a document's header names. */
function kindOf(jws: string): DocumentKind | null {
  const header = JSON.parse(atob((jws.split('.')[0] ?? '').replaceAll('-', '+').replaceAll('_', '/'))) as { typ?: string }
  const kind = documentKind.safeParse(/^sallyport-(.+)\+jws$/.exec(header.typ ?? '')?.[1])
  return kind.success ? kind.data : null
}
