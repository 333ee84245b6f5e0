// A server certificate from a public CA by ACME (RFC 8555): kept on disk, renewed at two thirds of its life by the wall clock. Ordering is acme-order.ts.
import { createHash, generateKeyPairSync, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { z } from 'zod'
import type { PolicyFile } from '../../domain/access/policy-file.ts'
import { jitteredBackoff } from '../../node/backoff.ts'
import { readJson, writeJson, writePrivateFile } from '../../node/key-store.ts'
import type { Log } from '../../node/logging.ts'
import { readKeyPair, type KeyPair } from './key-pairs.ts'
import type { Timers } from '../../node/timers.ts'

/** `url` names it at its CA; null: it is not yet known there. */
const account = z.strictObject({ privateKey: z.string(), url: z.url().nullable() })
export type AcmeAccount = z.infer<typeof account>
export interface AcmeOrder {
  readonly directory: string
  readonly contact: string | null
  readonly hosts: readonly string[]
  readonly account: AcmeAccount
  /** PEM of the CA of the directory's own TLS certificate; null: the usual ones. */
  readonly ca: string | null
  readonly challengePort: number
}
export type AcmeOutcome = { readonly ok: true; readonly cert: string; readonly key: string; readonly accountUrl: string } | { readonly ok: false; readonly reason: string }

type Settings = NonNullable<PolicyFile['listener']['acme']>

/** A timer stands still while a machine sleeps; so the wall clock is asked at least this often. */
const LOOK_AGAIN_MS = 3_600_000
const ORDER_LIMIT_MS = 300_000

/** Runs an order; settles within five minutes. */
async function runOrder(order: AcmeOrder, timers: Timers): Promise<AcmeOutcome> {
  const worker = new Worker(new URL('acme-order.ts', import.meta.url), { workerData: order, execArgv: [] })
  const { promise, resolve } = Promise.withResolvers<AcmeOutcome>()
  const stop = timers.after(ORDER_LIMIT_MS, () => resolve({ ok: false, reason: `no certificate within ${ORDER_LIMIT_MS / 1000} s` }))
  worker.once('message', resolve)
  worker.once('error', (error: Error) => resolve({ ok: false, reason: error.message }))
  worker.once('exit', (code) => resolve({ ok: false, reason: `the order ended with ${code}` }))
  const outcome = await promise
  stop()
  await worker.terminate()
  return outcome
}

async function openAccount(file: string): Promise<AcmeAccount> {
  const kept = await readJson(file, account)
  if (kept !== null) return kept
  const made: AcmeAccount = { privateKey: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), url: null }
  await writeJson(file, made)
  return made
}

/** ms at which a certificate is due. */
function dueAt({ cert }: KeyPair): number {
  const { validFromDate, validToDate } = new X509Certificate(cert)
  return validFromDate.getTime() + (validToDate.getTime() - validFromDate.getTime()) * (2 / 3)
}

const nameOf = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16)

export interface Acme {
  /** The certificate that is held; null: none yet, or none is wanted. */
  current(): KeyPair | null
  /** Takes over what the policies say. Resolves when a certificate that is on disk has been read; one that must be ordered comes later. */
  follow(settings: Settings | undefined): Promise<void>
  /** Calls when another certificate is held. @returns takes the listener away */
  onChange(listener: () => void): () => void
  close(): void
}

/** @param directory the gateway's state directory */
export function createAcme({ directory, timers, now, log }: { readonly directory: string; readonly timers: Timers; readonly now: () => number; readonly log: Log }): Acme {
  const listeners = new Set<() => void>()
  const onChange = () => {
    for (const listener of listeners) listener()
  }
  let held: KeyPair | null = null
  let wanted: Settings | undefined
  /** Counts what was wanted: an order for what is no longer wanted comes to nothing. */
  let generation = 0
  let stop = () => {}
  let failures = 0

  const filesOf = ({ directory: url, hosts }: Settings) => {
    const name = nameOf(JSON.stringify([url, [...hosts].sort()]))
    return { certificateFile: join(directory, 'acme', `${name}.pem`), keyFile: join(directory, 'acme', `${name}.key`) }
  }

  async function obtain(settings: Settings, mine: number): Promise<void> {
    const files = filesOf(settings)
    const { directory: url, contact = null, hosts, caFile, challengePort } = settings
    const ca = caFile === undefined ? null : await readFile(caFile, 'utf8')
    const accountFile = join(directory, 'acme', `${nameOf(url)}.account.json`)
    const known = await openAccount(accountFile)
    const outcome = await runOrder({ directory: url, contact, hosts, account: known, ca, challengePort }, timers)
    if (!outcome.ok) {
      // A CA that forgot the account is asked for a new one.
      if (outcome.reason.includes('accountDoesNotExist')) await writeJson(accountFile, { ...known, url: null })
      throw new Error(outcome.reason)
    }
    if (known.url !== outcome.accountUrl) await writeJson(accountFile, { ...known, url: outcome.accountUrl })
    // The key last: a pair that was torn by a crash does not fit, and is ordered anew.
    await writePrivateFile(files.certificateFile, outcome.cert)
    await writePrivateFile(files.keyFile, outcome.key)
    if (mine !== generation) return
    held = await readKeyPair(files)
    failures = 0
    log.info({ event: 'acme-certificate', hosts, until: new X509Certificate(held.cert).validTo }, 'The gateway has a certificate from a public CA.')
    onChange()
  }

  function keep(settings: Settings, mine: number): void {
    if (mine !== generation) return
    const wait = held === null ? 0 : dueAt(held) - now()
    const again = (delay: number) => {
      if (mine === generation) stop = timers.after(delay, () => keep(settings, mine))
    }
    if (wait > 0) return again(Math.min(wait, LOOK_AGAIN_MS))
    obtain(settings, mine).then(() => again(0), (cause: Error) => {
      log.error({ event: 'acme-failed', hosts: settings.hosts, reason: cause.message }, 'No certificate could be had from the public CA; it will be tried again.')
      again(jitteredBackoff(failures++, { firstMs: 10_000, limitMs: LOOK_AGAIN_MS }))
    })
  }

  return {
    current: () => held,
    async follow(settings) {
      if (JSON.stringify(settings) === JSON.stringify(wanted)) return
      wanted = settings
      const mine = ++generation
      stop()
      failures = 0
      // None on disk, or one that does not fit: both are ordered.
      held = settings === undefined ? null : await readKeyPair(filesOf(settings)).catch(() => null)
      if (settings !== undefined) keep(settings, mine)
      onChange()
    },
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close() {
      generation++
      stop()
    },
  }
}
