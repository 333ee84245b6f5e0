// This very agent as a command, for programs that call it back.
import { fileURLToPath } from 'node:url'
import { shellWord, withoutTokens } from './quote.ts'

/** What is run, and what it is given first. */
export const ownProgram = [process.execPath, fileURLToPath(new URL('../main.ts', import.meta.url))] as const

/** For a shell that ssh starts. @param words of ours, with tokens of ssh where it should put something in; quoted already */
export const ownCommand = (verb: string, directory: string, ...words: readonly string[]): string =>
  [...[...ownProgram, verb, '--state', directory].map((word) => withoutTokens(shellWord(word))), ...words].join(' ')
