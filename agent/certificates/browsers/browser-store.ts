// What the agent needs of a place where browsers keep client certificates, whatever the system. Linux has it; other systems say that they have not.
import type { HeldCertificate } from './browser-record.ts'

/** What can not be done there now, in a sentence for the status: no defect of the agent. */
export class StoreFailure extends Error {}

/** One database of one user. */
export interface BrowserStore {
  /** Its directory: what it is known by. */
  readonly directory: string
  /** The files whose change means that somebody wrote to it. */
  readonly watched: readonly string[]
  /** Changes with what is in it; null when it is not there. */
  signature(): Promise<string | null>
  /** Whether certificate and key are both there, unaltered. Throws a `StoreFailure`. */
  holds(held: HeldCertificate): Promise<boolean>
  /** Puts both there; makes the database where it is missing. Throws a `StoreFailure`. */
  put(held: HeldCertificate, name: string): Promise<void>
  /** Takes both away; nothing when they are not there. Throws a `StoreFailure`. */
  remove(keyId: string): Promise<void>
  /** Ids of the keys of the certificates of this name. Throws a `StoreFailure`. */
  named(name: string): Promise<string[]>
}

export interface BrowserStores {
  /** The account whose browsers these are. */
  readonly user: string
  find(): Promise<BrowserStore[]>
  /** A store that was found earlier. */
  open(directory: string): BrowserStore
  /** Makes browsers select the certificate of this UID for these hosts without asking; none: takes that back. Returns sentences on what it could not. */
  select(uid: string, hosts: readonly string[]): Promise<string[]>
  /** The files that {@link select} writes. */
  readonly policyFiles: readonly string[]
}

/** The name under which a user finds it in the browser's list. Only what bears it, or is known by its key, is ever touched. */
export const nameFor = (uid: string): string => `Sallyport ${uid}`
