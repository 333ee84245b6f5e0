// The policies in force, read from the administrator's file and read again when it changes. A file with a mistake changes nothing.
import { watch } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { basename, dirname, resolve } from 'node:path'
import { readPolicies, type PolicyError } from '../../domain/access/read-policies.ts'
import type { Origin } from '../../domain/access/geo.ts'
import type { Policies } from '../../domain/access/policies.ts'
import type { Log } from '../../node/logging.ts'
import { systemTimers, type Timers } from '../../node/timers.ts'
import { createCountries } from './countries.ts'

export interface PolicyStore {
  current(): Policies
  /** Where a source (address and port) is, by the database that the policies name. */
  originOf(source: string): Origin
  /** Calls after the policies, or that database, have been replaced. @returns takes the listener away */
  onChange(listener: () => void): () => void
}

/** One line per mistake: `file:line:column: path detail`. */
export const describePolicyErrors = (path: string, errors: readonly PolicyError[]): string[] =>
  errors.map((error) => `${path}:${error.line}:${error.column}: ${error.path === '' ? '' : `${error.path} `}${error.detail}`)

/** Editors write in several steps. */
const SETTLE_MS = 100

/**
 * Opens the policy file and follows it.
 * @throws Error naming each mistake with its place, when the file can't be used at the start
 */
export async function openPolicyFile({ path, log, timers = systemTimers }: { path: string; log: Log; timers?: Timers }): Promise<PolicyStore & { close(): void }> {
  // Files that the policies name stand beside them unless their whole path is given.
  const read = async () => readPolicies(await readFile(path, 'utf8'), (file) => resolve(dirname(path), file))
  const first = await read()
  if (!first.ok) throw new Error(describePolicyErrors(path, first.errors).join('\n'))
  let { policies } = first
  const listeners = new Set<() => void>()
  const replaced = () => {
    for (const listener of listeners) listener()
  }
  const countries = createCountries({ timers, log })
  countries.onChange(replaced)
  await countries.follow(policies.geo.databaseFile)

  async function reload(): Promise<void> {
    const next = await read()
    if (!next.ok) {
      log.error({ event: 'policies_refused', errors: describePolicyErrors(path, next.errors) }, 'The policy file has mistakes; the policies before stay in force')
      return
    }
    // Before the policies: they would find every address unknown, and cut whom they let in.
    await countries.follow(next.policies.geo.databaseFile)
    policies = next.policies
    log.info({ event: 'policies_loaded', services: policies.services.length }, 'The policies have been replaced')
    replaced()
  }
  let pending: NodeJS.Timeout | undefined
  // The directory, not the file: an editor that writes by rename leaves a watch on the file behind.
  const watcher = watch(dirname(path), (_event, name) => {
    if (name !== null && name !== basename(path)) return
    clearTimeout(pending)
    pending = setTimeout(() => {
      reload().catch((error: Error) => log.error({ event: 'policies_unreadable', cause: error.message }, 'The policy file can not be read; the policies before stay in force'))
    }, SETTLE_MS)
  })
  watcher.on('error', (error) => log.error({ event: 'policies_unwatched', cause: error.message }, 'Changes of the policy file are no longer noticed'))
  return {
    current: () => policies,
    originOf: countries.originOf,
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close() {
      clearTimeout(pending)
      watcher.close()
      countries.close()
    },
  }
}
