// What a command is: data that drives parsing, help and the tests of completeness.
import type { z } from 'zod'
import type { ControlClient } from '../node/control-client.ts'
import type { Question } from './confirm.ts'
import type { Printer } from './printer.ts'

/** A word after the command, or the value of an option. */
export interface Word<S extends z.ZodType = z.ZodType> { readonly says: string; readonly schema: S }
/** Without `takes` it is a switch. A list may be given with commas or several times. */
export interface Option<S extends z.ZodType = z.ZodType> extends Word<S> { readonly takes?: string; readonly list?: true }

type Words = Readonly<Record<string, Word>>
type Options = Readonly<Record<string, Option>>
export interface Given<W extends Words, O extends Options> {
  readonly words: { readonly [K in keyof W]: z.output<W[K]['schema']> }
  readonly options: { readonly [K in keyof O]: z.output<O[K]['schema']> }
}

/** What a command works with. */
export interface Session {
  readonly call: ControlClient['call']
  readonly printer: Printer
  /** ms. */
  readonly now: () => number
  /** The text of a file, of standard input for `-`. */
  read(path: string): Promise<string>
  /** The same in pieces, for files that need not fit into memory. */
  open(path: string): AsyncIterable<string>
  /** Writes lines to a file; throws when it is there already, unless forced. */
  save(path: string, lines: readonly string[], force: boolean): Promise<void>
  /** Goes on with `--yes` or after a yes on the terminal; throws otherwise. */
  confirm(yes: boolean, question: Question): Promise<void>
}

interface Declared<W extends Words, O extends Options> {
  /** Noun and verb, as typed: `endpoints list`. */
  readonly name: string
  readonly summary: string
  /** What else its help says. */
  readonly note?: string
  readonly words: W
  readonly options: O
  /** Whole command lines, without the program's name. */
  readonly examples: readonly [string, ...string[]]
  /** What to do when the EMS knows nothing under what was named. */
  missing?(words: Given<W, O>['words']): string
  /** False where the EMS asks for no token. */
  readonly needsToken?: false
  run(given: Given<W, O>, session: Session): Promise<void>
}
export type Command = Declared<Words, Options>

/** Declares one command; words and options reach it only through their own schemas. */
export const command = <W extends Words, O extends Options>(declared: Declared<W, O>): Command => declared
