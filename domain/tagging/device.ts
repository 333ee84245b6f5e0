// What an agent offers to agent-side conditions. The agent implements it; conditions only ask.

/** A file as a condition may ask for it; `unreadable` when it is there but can't be looked at. */
export type FileFacts = { readonly exists: false } | { readonly exists: true; sha256(): Promise<string | null> } | 'unreadable'
export interface RunningProcess {
  readonly name: string
  readonly path: string
  /** Hex hash of the program that runs, also where its file has been replaced since; null: can't be read. Absent: this agent does not hash programs. */
  sha256?(): Promise<string | null>
}
/** A certificate of one of the system's or the user's stores. */
export interface InstalledCertificate {
  /** Attributes joined by `, ` in the certificate's order: `C=DE, O=Example, CN=laptop`. */
  readonly subject: string
  readonly issuer: string
  /** ms */
  readonly notBefore: number
  readonly notAfter: number
  /** Names of RFC 5280: `digitalSignature`, `keyCertSign`; extended ones as `clientAuth`, `serverAuth` or a dotted OID. */
  readonly keyUsage: readonly string[]
  /** Whether its private key is there too. */
  readonly hasPrivateKey: boolean
}
/** Numbers in decimal, several strings joined by line feeds, bytes in lower-case hex. */
export type RegistryValue =
  | { readonly exists: false; readonly missing: 'key' | 'value' }
  | { readonly exists: true; readonly kind: 'string' | 'number' | 'strings' | 'bytes'; readonly value: string }
  | 'unreadable'

export interface Device {
  fileFacts(path: string): Promise<FileFacts>
  processes(): Promise<readonly RunningProcess[]>
  /** Absent: this agent can't look there, and what asks for it is unknown. */
  certificates?(): Promise<readonly InstalledCertificate[]>
  /** `key` like `HKEY_LOCAL_MACHINE\SOFTWARE\Example`; an empty name is the key's default value, null only asks for the key. Windows only. */
  registryValue?(key: string, name: string | null): Promise<RegistryValue>
}
/** What the agent watches so that a change is noticed when it happens. */
export interface WatchTargets { readonly files: readonly string[]; readonly processes: readonly string[] }
export const nothingToWatch: WatchTargets = { files: [], processes: [] }
