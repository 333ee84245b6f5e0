// The signed documents that say what this agent does. What is foreign, altered, addressed to another or older than what is held is refused.
import { z } from 'zod'
import { trustAuthority, type TrustedAuthority } from '../../identity/certificate.ts'
import { openDocument, type DocumentRefusal } from '../../identity/document.ts'
import { fromBase64Url } from '../../identity/encoding.ts'
import { readJson, writeJson } from '../../node/key-store.ts'
import { documentBodies, documentKind, type DocumentKind, type DocumentVersions } from '../../protocol/documents.ts'
import { profileSettings, type ProfileSettings } from '../../protocol/profile.ts'
import { instant } from '../../protocol/text.ts'

const held = <T extends z.ZodType>(body: T) => z.object({ version: instant, body }).nullable()
const stored = z.object({
  profile: held(documentBodies.profile), rules: held(documentBodies.rules), licence: held(documentBodies.licence), authorities: held(documentBodies.authorities),
})
export type StoredDocuments = z.infer<typeof stored>
export type StandingKind = keyof StoredDocuments
const standing = Object.keys(stored.shape) as StandingKind[]
const nothing: StoredDocuments = { profile: null, rules: null, licence: null, authorities: null }
const MAX_AUTHORITIES = 16

export type Taken =
  | { readonly ok: true; readonly kind: StandingKind }
  | { readonly ok: true; readonly kind: 'deregistration'; readonly reason: string }
  | { readonly ok: false; readonly reason: DocumentRefusal | 'not-standing' | 'closed' }

export interface DocumentStore {
  /** Verifies, keeps and applies one document. Only `deregistration` is not kept: the caller lets go. */
  take(jws: string): Promise<Taken>
  /** Believes CAs that the EMS proved by the pin of the enrolment, where the list of CAs was lost; the next list of CAs counts as newer. */
  believe(certificates: readonly string[]): Promise<void>
  current<K extends StandingKind>(kind: K): NonNullable<StoredDocuments[K]>['body'] | null
  /** Settings of the assigned profile, or what holds without one. */
  settings(): ProfileSettings
  versions(): DocumentVersions
  /** CAs that are believed, PEM, the active one first. */
  authorities(): string[]
  /** The same, opened. */
  trusted(): readonly TrustedAuthority[]
  /** Called after a document has been applied; returns how to stop listening. */
  onChange(listener: (kind: StandingKind) => void): () => void
  /** Takes nothing more; resolves when what was begun has ended. */
  close(): Promise<void>
}

/** What a document says it is, before it is verified: only to know what to verify it as. */
export function claimedKind(jws: string): DocumentKind | null {
  const header = fromBase64Url(jws.split('.')[0] ?? '')
  if (header === null) return null
  try {
    const { typ } = JSON.parse(new TextDecoder().decode(header)) as { typ?: unknown }
    const kind = documentKind.safeParse(typeof typ === 'string' ? /^sallyport-([a-z]+)\+jws$/.exec(typ)?.[1] : null)
    return kind.success ? kind.data : null
  } catch {
    return null // not a JWS header: it claims nothing
  }
}

export interface DocumentStoreOptions {
  /** The file that holds them. It is private to the agent's account: what stands in it was verified when it was taken. */
  readonly file: string
  readonly uid: string
  /** ms, EMS clock */
  readonly now: () => number
  /** How they are put on disk; written through unless said. */
  readonly write?: (documents: StoredDocuments) => Promise<void>
}

/** Opens the store. Throws when the file is there and damaged. */
export async function openDocumentStore({ file, uid, now, write = (documents) => writeJson(file, documents) }: DocumentStoreOptions): Promise<DocumentStore> {
  let state = await readJson(file, stored) ?? nothing
  const pems = () => state.authorities?.body.certificates ?? []
  let trusted = await Promise.all(pems().map((pem) => trustAuthority(pem)))
  const defaults = profileSettings.parse({})
  const listeners = new Set<(kind: StandingKind) => void>()
  let closed = false
  // One after the other: two documents of a kind at once could otherwise both be newer than the one held.
  let turn: Promise<unknown> = Promise.resolve()
  const inTurn = <T>(action: () => Promise<T>): Promise<T> => {
    const acting = turn.then(action)
    turn = acting.catch(() => null) // the caller hears of it; the next one must not
    return acting
  }

  async function take(jws: string): Promise<Taken> {
    if (closed) return { ok: false, reason: 'closed' }
    const kind = claimedKind(jws)
    if (kind === null) return { ok: false, reason: 'malformed' }
    if (kind === 'deregistration') {
      const opened = await openDocument(jws, { kind, to: uid, authorities: trusted, now: now() })
      return opened.ok ? { ok: true, kind, reason: opened.payload.body.reason } : opened
    }
    const own = standing.find((each) => each === kind)
    if (own === undefined) return { ok: false, reason: 'not-standing' }
    const newerThan = state[own]?.version
    const opened = await openDocument(jws, { kind: own, to: uid, authorities: trusted, now: now(), ...(newerThan === undefined ? {} : { newerThan }) })
    if (!opened.ok) return opened
    const { version, body } = opened.payload
    const next = stored.safeParse({ ...state, [own]: { version, body } })
    if (!next.success) return { ok: false, reason: 'malformed' }
    return await apply(own, next.data) ? { ok: true, kind: own } : { ok: false, reason: 'malformed' }
  }

  /** False when a list of CAs is none: one without a CA in it would leave nobody to believe, for ever. */
  async function apply(kind: StandingKind, next: StoredDocuments): Promise<boolean> {
    if (kind === 'authorities') {
      const certificates = (next.authorities?.body.certificates ?? []).slice(0, MAX_AUTHORITIES)
      const opened = await Promise.all(certificates.map((pem) => trustAuthority(pem).catch(() => null)))
      if (opened.length === 0 || opened.includes(null)) return false
      await write(next)
      trusted = opened.filter((each) => each !== null)
    } else await write(next)
    state = next
    for (const listener of listeners) listener(kind)
    return true
  }

  return {
    take: (jws) => inTurn(() => take(jws)),
    believe: (certificates) => inTurn(async () => {
      const next = { ...state, authorities: { version: state.authorities?.version ?? 0, body: { certificates: [...certificates] } } }
      if (closed || !await apply('authorities', next)) throw new Error('what the EMS introduced is no list of CAs')
    }),
    current: (kind) => state[kind]?.body ?? null,
    settings: () => state.profile?.body.settings ?? defaults,
    versions: () => ({ profile: state.profile?.version ?? 0, rules: state.rules?.version ?? 0, licence: state.licence?.version ?? 0, authorities: state.authorities?.version ?? 0 }),
    authorities: pems,
    trusted: () => trusted,
    onChange(listener) {
      listeners.add(listener)
      return () => { listeners.delete(listener) }
    },
    async close() {
      closed = true
      await turn
    },
  }
}
