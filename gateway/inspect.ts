// What can be said of a gateway without running it: its policies, its membership, the age of its snapshot.
import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { lintPolicies } from '../domain/access/lint-policies.ts'
import type { Policies } from '../domain/access/policies.ts'
import { readPolicies } from '../domain/access/read-policies.ts'
import { readCertificate } from '../identity/certificate.ts'
import { joiningFingerprint } from './fabric/join.ts'
import { loadSnapshot, readCurrency } from './fabric/snapshot-file.ts'
import { readMembership } from './fabric/membership.ts'
import type { HeardBy } from './fabric/replica.ts'
import { openCountryDatabase } from './proxy/countries.ts'
import { readKeyPair } from './proxy/key-pairs.ts'
import { describePolicyErrors } from './proxy/policy-store.ts'

export interface PolicyCheck { readonly ok: boolean; readonly errors: readonly string[]; readonly warnings: readonly string[]; readonly services: number }

/** Certificates in files that can't be used now. A sentence each; the gateway serves without them. */
async function unusablePairs({ listener, services }: Policies): Promise<string[]> {
  const pairs = [...listener.certificates, ...services.flatMap(({ tls }) => tls.client ?? [])]
  const tried = await Promise.all(pairs.map((pair) => readKeyPair(pair).then(() => null, (cause: Error) => `The certificate in ${pair.certificateFile} can not be used: ${cause.message}.`)))
  return tried.filter((sentence) => sentence !== null)
}

/** Why countries can't be looked up; empty when they can, or none is asked for. */
async function unusableDatabase({ geo: { databaseFile: file } }: Policies): Promise<string[]> {
  return file === null ? [] : await openCountryDatabase(file).then(() => [], (cause: Error) => [`The database of countries ${file} can not be used: ${cause.message}. Until it can, no country is known.`])
}

/** Checks a policy file; with a state directory, also its tags against those that the EMS has told. */
export async function checkPolicies(file: string, stateDirectory: string | null, now: number): Promise<PolicyCheck> {
  const text = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw cause.code === 'ENOENT' ? new Error(`There is no file ${file}; docs/policies.yaml is an example of one.`, { cause }) : cause
  })
  const read = readPolicies(text, (name) => resolve(dirname(file), name))
  if (!read.ok) return { ok: false, errors: describePolicyErrors(file, read.errors), warnings: [], services: 0 }
  const membership = stateDirectory === null ? null : await readMembership(stateDirectory)
  const loaded = stateDirectory === null || membership === null ? null : await loadSnapshot(stateDirectory, membership.serial, now)
  return { ok: true, errors: [], warnings: [...await unusablePairs(read.policies), ...await unusableDatabase(read.policies), ...lintPolicies(read.policies, { tagsByName: loaded?.ok === true ? loaded.state.snapshot.tagsByName : null, now })], services: read.policies.byService.size }
}

export interface GatewayStatus {
  readonly joined: boolean
  /** While it waits to be authorised: what an administrator compares. */
  readonly fingerprint: string | null
  readonly serial: string | null
  readonly ems: string | null
  /** ms; when the certificate ends. */
  readonly certificateUntil: number | null
  readonly endpoints: number | null
  readonly revision: string | null
  /** ms since the EMS last said that this is all, as far as the disk knows; null: never. */
  readonly snapshotAge: number | null
  /** By which way it said so: it told, or it was asked because no websocket could be had; null: not known. */
  readonly heardBy: HeardBy | null
}

/** Reads the state directory of a gateway, running or not. */
export async function readStatus(directory: string, now: number): Promise<GatewayStatus> {
  const [membership, currency] = await Promise.all([readMembership(directory), readCurrency(directory)])
  return {
    joined: membership !== null, fingerprint: membership === null ? await joiningFingerprint(directory) : null, serial: membership?.serial ?? null, ems: membership?.ems ?? null,
    certificateUntil: membership === null ? null : readCertificate(membership.certificate)?.notAfter ?? null,
    endpoints: currency?.endpoints ?? null, revision: currency?.revision ?? null,
    snapshotAge: currency === null || currency.currentAt === null ? null : now - currency.currentAt, heardBy: currency?.heardBy ?? null,
  }
}
