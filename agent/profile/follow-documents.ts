// Keeps the standing documents current: takes what the channel brings, fetches what a reply says is newer, and mends trust where a signer is not known.
import type { Log } from '../../node/logging.ts'
import type { DocumentVersions } from '../../protocol/documents.ts'
import { Fault } from '../../protocol/faults.ts'
import { sentenceFor } from '../failure.ts'
import type { Troubles } from '../troubles.ts'
import type { DocumentStore, Taken } from './document-store.ts'

export interface FollowOptions {
  readonly store: DocumentStore
  /** The documents newer than those held. */
  readonly fetch: (have: DocumentVersions) => Promise<readonly string[]>
  /** The CAs that the EMS proves by the pin of the enrolment. */
  readonly introduce: () => Promise<readonly string[]>
  readonly onDeregistration: (reason: string) => void
  /** Faults that are not about documents: an expired certificate, a deregistration. */
  readonly onFault: (fault: Fault) => Promise<unknown>
  readonly onDefect: (cause: unknown) => void
  readonly troubles: Troubles
  readonly log: Log
}

export interface FollowedDocuments {
  /** Takes one document; a refused one is said and changes nothing. */
  take(jws: string): Promise<void>
  /** What the EMS says it has, with each reply: what is newer is fetched. */
  note(theirs: DocumentVersions): void
  /** Resolves when nothing is under way. Close the store before, so that nothing more is kept. */
  settled(): Promise<void>
}

export function followDocuments(options: FollowOptions): FollowedDocuments {
  const { store, log, troubles } = options
  let fetching: Promise<void> | null = null
  /** What was told while something older was being fetched. */
  let next: DocumentVersions | null = null
  let mending: Promise<void> | null = null
  /** Versions that were fetched and taken: a kind of which there is no document for us is not asked for again and again. */
  let fetched: DocumentVersions = store.versions()

  /** Takes one as it is: false when it was refused though it is not older than what is held. */
  async function takeOnce(jws: string): Promise<Taken['ok'] | 'foreign'> {
    const taken = await store.take(jws)
    if (taken.ok) {
      if (taken.kind === 'deregistration') options.onDeregistration(taken.reason)
      return true
    }
    if (taken.reason === 'older' || taken.reason === 'closed') return true
    log.warn({ event: 'document-refused', reason: taken.reason }, 'A document was refused.')
    return taken.reason === 'foreign' ? 'foreign' : false
  }

  /** Both halves of one question: who signs for this EMS now? By the list of CAs, however old ours says it is; where the list was lost, by the pin. */
  async function askWhoSigns(): Promise<void> {
    try {
      if (store.trusted().length === 0) return await store.believe(await options.introduce())
      for (const jws of await options.fetch({ ...store.versions(), authorities: 0 })) await takeOnce(jws)
    } catch (cause) {
      if (!(cause instanceof Fault)) throw cause
      log.warn({ event: 'authorities-not-fetched', fault: cause.code, reason: cause.message }, 'Who signs for the EMS could not be asked.')
    }
  }
  const mendTrust = (): Promise<void> => (mending ??= askWhoSigns().finally(() => { mending = null }))

  async function take(jws: string): Promise<boolean> {
    const taken = await takeOnce(jws)
    if (taken !== 'foreign') return taken
    await mendTrust()
    return await takeOnce(jws) === true
  }

  async function fetchNewer(theirs: DocumentVersions): Promise<void> {
    // Nobody to believe: what comes could only be refused.
    if (store.trusted().length === 0) await mendTrust()
    let refused = 0
    for (const jws of await options.fetch(store.versions())) if (!await take(jws)) refused++
    if (refused === 0) {
      fetched = theirs
      return troubles.clear('documents')
    }
    troubles.raise('documents', `${refused} of the documents that the EMS sent were refused: this agent does not know who signed them, or they are not for it. What was held stays in force. Tell an administrator of the EMS.`)
  }

  function note(theirs: DocumentVersions): void {
    if (fetching !== null) {
      next = theirs
      return
    }
    const held = store.versions()
    const kinds = Object.keys(theirs) as (keyof DocumentVersions)[]
    if (!kinds.some((kind) => theirs[kind] > Math.max(held[kind], fetched[kind]))) return
    fetching = fetchNewer(theirs).catch(async (cause: unknown) => {
      if (!(cause instanceof Fault)) throw cause
      log.warn({ event: 'documents-not-fetched', fault: cause.code, reason: sentenceFor(cause) }, 'Newer documents could not be fetched; they are asked for with the next report.')
      await options.onFault(cause)
    }).catch(options.onDefect).finally(() => {
      fetching = null
      const waiting = next
      next = null
      if (waiting !== null) note(waiting)
    })
  }

  return {
    async take(jws) {
      await take(jws)
    },
    note,
    async settled() {
      await Promise.all([fetching, mending])
    },
  }
}
