// Reads what a document claims before it is verified: only to find which CA it claims to come from.
import { introduction } from '../protocol/documents.ts'
import { fromBase64Url } from './encoding.ts'

/** The CAs that an unverified introduction offers; empty when it is none. Whoever calls this verifies with one that it knows by pin. */
export function decodePayload(jws: string): { certificates: string[] } {
  const bytes = fromBase64Url(jws.split('.')[1] ?? '')
  if (bytes === null) return { certificates: [] }
  try {
    const { body } = JSON.parse(new TextDecoder().decode(bytes)) as { body?: unknown }
    const said = introduction.shape.certificates.max(8).safeParse((body as { certificates?: unknown } | undefined)?.certificates)
    return { certificates: said.success ? said.data : [] }
  } catch {
    return { certificates: [] } // not JSON: it offers nothing
  }
}
