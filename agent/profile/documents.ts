// The signed documents that rule this agent: verified, never older than what is held, kept on disk. Nothing else configures it.
import { trustAuthority, type TrustedAuthority } from '../../identity/certificate.ts'
import { decodePayload } from '../../identity/document-payload.ts'
import { openDocument } from '../../identity/document.ts'
import { readJson, writeJson } from '../../node/key-store.ts'
import type { Log } from '../../node/logging.ts'
import type { DocumentKind, DocumentVersions } from '../../protocol/documents.ts'
import type { AssignedProfile, LicenceState } from '../../protocol/profile.ts'
import type { AgentRules } from '../../protocol/rules.ts'
import { filesIn, heldDocuments, type HeldDocuments } from '../state.ts'

interface Standing { profile: AssignedProfile; rules: AgentRules; licence: LicenceState; authorities: { certificates: string[] } }
type StandingKind = keyof Standing
const kinds = ['authorities', 'profile', 'rules', 'licence'] as const satisfies readonly StandingKind[]

export interface DocumentStore {
  current<K extends StandingKind>(kind: K): Standing[K] | null
  versions(): DocumentVersions
  authorities(): string[]
  /** Takes a document; what is foreign, misaddressed, altered or not newer is refused and logged. */
  take(kind: StandingKind, document: string): Promise<boolean>
  /** Whether this really is the EMS saying that the device is managed no more. */
  isDeregistration(document: string): Promise<boolean>
  onChange(listener: (kind: StandingKind) => void): () => void
}

/** @param pin of the CA that the invitation named: the first trust, by which later CAs are introduced */
export async function openDocumentStore(options: { directory: string; uid: string; pin: string; now: () => number; log: Log }): Promise<DocumentStore> {
  const { uid, pin, now, log } = options
  const { documents: file } = filesIn(options.directory)
  const held: HeldDocuments = await readJson(file, heldDocuments) ?? {}
  const bodies: Partial<Standing> = {}
  const versions: DocumentVersions = { profile: 0, rules: 0, licence: 0, authorities: 0 }
  const listeners = new Set<(kind: StandingKind) => void>()
  let trusted: TrustedAuthority[] = []

  const trust = async (certificates: readonly string[]) => {
    trusted = await Promise.all(certificates.map((pem) => trustAuthority(pem)))
  }
  const open = async <K extends StandingKind>(kind: K, document: string): Promise<boolean> => {
    const opened = await openDocument(document, { kind, to: uid, authorities: trusted, now: now(), newerThan: versions[kind] })
    if (!opened.ok) {
      log.warn({ event: 'document-refused', kind, reason: opened.reason }, 'A document was refused.')
      return false
    }
    Object.assign(bodies, { [kind]: opened.payload.body })
    versions[kind] = opened.payload.version
    if (kind === 'authorities') await trust((opened.payload.body as Standing['authorities']).certificates)
    return true
  }
  // What was kept is verified again, beginning at the pinned CA: a file is no proof.
  if (held.authorities !== undefined) {
    const offered = await Promise.all(decodePayload(held.authorities).certificates.map((pem) => trustAuthority(pem)))
    trusted = offered.filter((authority) => authority.pin === pin)
    if (!await open('authorities', held.authorities)) trusted = offered.filter((authority) => authority.pin === pin)
  }
  for (const kind of kinds) if (kind !== 'authorities' && held[kind] !== undefined) await open(kind, held[kind])

  return {
    current: (kind) => bodies[kind] ?? null,
    versions: () => ({ ...versions }),
    authorities: () => trusted.map(({ certificatePem }) => certificatePem),
    async take(kind, document) {
      if (!await open(kind, document)) return false
      held[kind] = document
      await writeJson(file, held)
      for (const listener of listeners) listener(kind)
      return true
    },
    async isDeregistration(document) {
      return (await openDocument(document, { kind: 'deregistration', to: uid, authorities: trusted, now: now() })).ok
    },
    onChange(listener) {
      listeners.add(listener)
      return () => { listeners.delete(listener) }
    },
  }
}

/** The kind that a document's header claims; null when it is none of the standing ones. Verified by {@link DocumentStore.take}. */
export function claimedKind(document: string): StandingKind | null {
  const head = Buffer.from(document.split('.')[0] ?? '', 'base64url').toString('utf8')
  const claimed = /"typ":"sallyport-([a-z]+)\+jws"/.exec(head)?.[1] as DocumentKind | undefined
  return kinds.find((kind) => kind === claimed) ?? null
}
