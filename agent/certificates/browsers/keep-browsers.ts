// Keeps a certificate in each of the user's browsers while the profile names services for them: put there, put back, renewed, taken back. What fails is a trouble in the status and stops nothing else.
import type { TrustedAuthority } from '../../../identity/certificate.ts'
import { importPrivateKey } from '../../../identity/keys.ts'
import { createCsr } from '../../../identity/request.ts'
import type { ControlClient } from '../../../node/control-client.ts'
import { Fault } from '../../../protocol/faults.ts'
import { browserCertificate } from '../../../protocol/operations/endpoint.ts'
import { sentenceFor } from '../../failure.ts'
import { watchFile, type FileWatch } from '../../posture/watch-file.ts'
import type { Timers } from '../../../node/timers.ts'
import type { Troubles } from '../../troubles.ts'
import { checkIssued, renewalDue } from '../renew.ts'
import { certificateOf, isIssued, newKey, readRecord, writeRecord, type BrowserRecord, type HeldCertificate, type HeldKey, type KeptStore } from './browser-record.ts'
import { nameFor, StoreFailure, type BrowserStore, type BrowserStores } from './browser-store.ts'
import { isExpected, removeFromBrowsers, removeFromStore } from './remove.ts'

export interface KeepBrowsersOptions {
  readonly stateDirectory: string
  readonly uid: string
  readonly ownerUid: number
  /** Names of the HTTPS services; none: browsers get no certificate. */
  readonly services: () => readonly string[]
  readonly onSettings: (listener: () => void) => () => void
  readonly stores: (ownerUid: number) => Promise<BrowserStores>
  readonly client: () => ControlClient
  readonly authorities: () => readonly TrustedAuthority[]
  /** ms, EMS clock */
  readonly now: () => number
  readonly timers: Timers
  readonly troubles: Troubles
  readonly onPlaced: (store: string, serial: string) => void
  /** What the EMS refuses, a deregistration above all. */
  readonly onFault: (fault: Fault) => Promise<unknown>
  readonly onDefect: (cause: unknown) => void
  /** 0 ≤ x < 1 */
  readonly random?: () => number
}

export interface KeptBrowsers {
  /** Call it before the EMS is asked anything, and hand the result to {@link told}: what was issued meanwhile is not in the answer. */
  asking(): number
  /** Which serials the EMS says are good: a certificate that is none of them was revoked, and is replaced by one for a new key. */
  told(asked: number, good: readonly string[]): void
  /** Stops; what was put there stays. */
  close(): Promise<void>
}

const LOOK_EVERY_MS = 60_000
/** Databases are written several times in a row. */
const SETTLE_MS = 300
const ATTEMPTS = 3
/** While they are renewed there are twice as many certificates, and an endpoint may hold 32. */
const MOST_STORES = 15

export function keepBrowsers(options: KeepBrowsersOptions): KeptBrowsers {
  const { stateDirectory, uid, ownerUid, services, timers, troubles, onDefect, random = Math.random } = options
  const name = nameFor(uid)
  /** By directory: the database as it was when it held what it should. */
  const seen = new Map<string, string>()
  /** By key: when its certificate is renewed, ms. */
  const due = new Map<string, number>()
  /** Keys whose certificates the EMS has revoked. */
  const revoked = new Set<string>()
  /** By key: how many certificates had come, with it. Those that were here before the start count as the first of all. */
  const cameAs = new Map<string, number>()
  let came = 0
  let lastTold: { readonly asked: number; readonly good: readonly string[] } | null = null
  const watches = new Map<string, FileWatch>()
  let record: BrowserRecord = { uid, ownerUid, stores: [] }
  let opened = false
  let closed = false
  let looking: Promise<void> | null = null
  let again = false
  let cancelLook = () => {}
  let cancelSoon = () => {}

  /** What is put there after the end would be taken away by nobody. */
  const going = (): void => {
    if (closed) throw new StoreFailure('The agent is ending.')
  }
  const keep = async (kept: KeptStore): Promise<void> => {
    going()
    const others = record.stores.filter(({ directory }) => directory !== kept.directory)
    const next = { uid, ownerUid, stores: [...others, kept] }
    await writeRecord(stateDirectory, next)
    record = next
  }

  /** Asks for a certificate for a key that is on disk. */
  async function certified(key: HeldKey, user: string): Promise<HeldCertificate> {
    if (isIssued(key)) return key
    const keys = await importPrivateKey(key.privateKeyPem)
    const { certificate } = await options.client().call(browserCertificate, { body: { csr: await createCsr(keys, uid), user } })
    await checkIssued(certificate, { uid, publicKey: keys.publicKey, authorities: options.authorities(), now: options.now(), purpose: 'browser' })
    cameAs.set(key.keyId, ++came)
    return { ...key, certificatePem: certificate }
  }

  function noteRevoked(): boolean {
    if (lastTold === null) return false
    const { asked, good } = lastTold
    const held = record.stores.flatMap(({ current, next }) => [current, ...(next === null ? [] : [next])]).filter(isIssued)
    const lost = held.filter((each) => !revoked.has(each.keyId) && (cameAs.get(each.keyId) ?? 0) <= asked && !good.includes(certificateOf(each).serial))
    for (const { keyId } of lost) revoked.add(keyId)
    return lost.length > 0
  }

  /** A key whose certificate was revoked before it came gets none any more: another key asks. */
  async function certifiedOrAnew(key: HeldKey, user: string, replace: (next: HeldKey) => Promise<void>): Promise<HeldCertificate> {
    try {
      return await certified(key, user)
    } catch (cause) {
      if (!(cause instanceof Fault && cause.code === 'conflict')) throw cause
      const next = await newKey()
      await replace(next)
      return await certified(next, user)
    }
  }

  function isDue(key: HeldKey): boolean {
    if (!isIssued(key)) return false
    if (revoked.has(key.keyId)) return true
    const at = due.get(key.keyId) ?? renewalDue(certificateOf(key), random())
    due.set(key.keyId, at)
    return options.now() >= at
  }

  async function place(store: BrowserStore, held: HeldCertificate): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      // Taken before it is looked at: what is changed while we look is looked at again.
      const signature = await store.signature()
      if (signature !== null && seen.get(store.directory) === signature) return
      if (!await store.holds(held)) {
        going()
        await store.put(held, name)
        options.onPlaced(store.directory, certificateOf(held).serial)
        continue
      }
      const strays = (await store.named(name)).filter((keyId) => keyId !== held.keyId)
      for (const keyId of strays) await store.remove(keyId)
      if (strays.length > 0) continue
      if (signature !== null) seen.set(store.directory, signature)
      return
    }
    throw new StoreFailure(`${store.directory}: what is put there does not stay.`)
  }

  async function serve(store: BrowserStore, user: string): Promise<void> {
    const { directory } = store
    let kept = record.stores.find((each) => each.directory === directory)
    if (kept === undefined) await keep(kept = { directory, current: await newKey(), next: null })
    const { current, next: coming } = kept
    if (!isIssued(current)) await keep(kept = { directory, next: coming, current: await certifiedOrAnew(current, user, (other) => keep({ directory, next: coming, current: other })) })
    if (kept.next === null && isDue(kept.current)) await keep(kept = { ...kept, next: await newKey() })
    if (kept.next !== null) {
      // The new one is there before the old one goes: `place` takes away what bears our name and is not it.
      const asking = kept
      await keep(kept = { ...asking, next: await certifiedOrAnew(kept.next, user, (other) => keep({ ...asking, next: other })) })
      seen.delete(directory)
      const old = kept.current.keyId
      const next = kept.next
      if (next === null || !isIssued(next)) throw new Error('a certificate that was issued is not there')
      await place(store, next)
      await store.remove(old)
      for (const each of [due, revoked, cameAs]) each.delete(old)
      return await keep({ directory, current: next, next: null })
    }
    if (isIssued(kept.current)) await place(store, kept.current)
  }

  function watch(files: readonly string[]): void {
    for (const [file, each] of watches) {
      if (files.includes(file)) continue
      each.close()
      watches.delete(file)
    }
    for (const file of files) if (!watches.has(file)) watches.set(file, watchFile(file, soon, timers))
  }

  /** Sentences on what could not be done. */
  async function once(): Promise<string[]> {
    const failures: string[] = []
    const attempt = async (action: () => Promise<unknown>): Promise<void> => {
      if (closed) return
      try {
        await action()
      } catch (cause) {
        if (!isExpected(cause)) throw cause
        failures.push(sentenceFor(cause))
        if (cause instanceof Fault) await options.onFault(cause)
      }
    }
    if (!opened) {
      const found = await readRecord(stateDirectory)
      // Of an enrolment before this one, that ended without its browsers having been reached.
      if (found !== null && found.uid !== uid) failures.push(...await removeFromBrowsers(stateDirectory, options.stores))
      else record = found ?? record
      if (failures.length > 0) return failures
      opened = true
      noteRevoked()
    }
    if (services().length === 0) {
      watch([])
      seen.clear()
      failures.push(...await removeFromBrowsers(stateDirectory, options.stores))
      record = await readRecord(stateDirectory) ?? { uid, ownerUid, stores: [] }
      return failures
    }
    await attempt(async () => {
      const stores = await options.stores(ownerUid)
      const all = await stores.find()
      const found = all.slice(0, MOST_STORES)
      if (all.length > MOST_STORES) failures.push(`Of ${all.length} databases of browsers only ${MOST_STORES} get a certificate.`)
      if (!closed) watch([...found.flatMap(({ watched }) => watched), ...stores.policyFiles])
      for (const store of found) await attempt(() => serve(store, stores.user))
      for (const gone of record.stores.filter(({ directory }) => !found.some((store) => store.directory === directory))) await attempt(async () => {
        await removeFromStore(stores, gone, name)
        record = { uid, ownerUid, stores: record.stores.filter((each) => each !== gone) }
        await writeRecord(stateDirectory, record)
      })
      await attempt(async () => { failures.push(...await stores.select(uid, services())) })
    })
    return failures
  }

  async function look(): Promise<void> {
    do {
      again = false
      const failures = [...new Set(await once())]
      if (failures.length === 0) troubles.clear('browsers')
      else troubles.raise('browsers', `Browsers are not served as they should be: ${failures.join(' ')}`)
    } while (again)
  }
  function start(): void {
    if (closed) return
    again = true
    looking ??= look().catch((cause: unknown) => {
      if (!isExpected(cause)) return onDefect(cause)
      troubles.raise('browsers', `Browsers are not served as they should be: ${sentenceFor(cause)}`)
    }).finally(() => { looking = null })
  }
  function soon(): void {
    cancelSoon()
    cancelSoon = timers.after(SETTLE_MS, start)
  }
  function lookLater(): void {
    cancelLook = timers.after(LOOK_EVERY_MS, () => {
      start()
      lookLater()
    })
  }

  const stopListening = options.onSettings(start)
  start()
  lookLater()
  return {
    asking: () => came,
    told(asked, good) {
      lastTold = { asked, good }
      if (noteRevoked()) start()
    },
    async close() {
      closed = true
      stopListening()
      cancelLook()
      cancelSoon()
      watch([])
      await looking
    },
  }
}
