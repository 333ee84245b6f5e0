// What an agent offers to agent-side conditions. The agent implements it; conditions only ask.

/** A file as a condition may ask for it; `unreadable` when it is there but can't be looked at. */
export type FileFacts = { readonly exists: false } | { readonly exists: true; sha256(): Promise<string | null> } | 'unreadable'
export interface RunningProcess { readonly name: string; readonly path: string }

export interface Device {
  fileFacts(path: string): Promise<FileFacts>
  processes(): Promise<readonly RunningProcess[]>
}
/** What the agent watches so that a change is noticed when it happens. */
export interface WatchTargets { readonly files: readonly string[]; readonly processes: readonly string[] }
export const nothingToWatch: WatchTargets = { files: [], processes: [] }
