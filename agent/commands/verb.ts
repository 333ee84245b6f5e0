// What every command of the agent is given, and gives back. The table of them is in ../command-line.ts.

export const options = {
  'state': { type: 'string' }, 'user': { type: 'string' }, 'tls-ca': { type: 'string' }, 'json': { type: 'boolean' }, 'transparent': { type: 'boolean' },
  'provider': { type: 'string' }, 'no-browser': { type: 'boolean' }, 'match': { type: 'boolean' }, 'help': { type: 'boolean', short: 'h' },
} as const
type OptionName = keyof typeof options
export type Values = { readonly [K in OptionName]?: (typeof options)[K]['type'] extends 'string' ? string : boolean }

/** Where a command's answer goes, and what it says beside it; a line each time. */
export interface Printer { out(text: string): void; err(text: string): void }
export interface Call {
  /** What stands behind the verb. */
  readonly words: readonly string[]
  readonly values: Values
  /** Of the agent's state; absolute. */
  readonly directory: string
  readonly print: Printer
}
/** Resolves with the exit code; throws a `UsageError`, or what the person is told. */
export type Perform = (call: Call) => Promise<number>

/** Prints the answer: as JSON where that was asked for. */
export const show = ({ values, print }: Call, told: unknown, sentences: string): void => print.out(values.json === true ? JSON.stringify(told) : sentences)
