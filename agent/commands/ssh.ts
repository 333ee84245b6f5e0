// `agent ssh`: one SSH session with a certificate of its own, by the system's ssh.
import { readDestination } from '../ssh/destination.ts'
import { sshSession } from '../ssh/session.ts'
import { ask } from './ask.ts'
import type { Perform } from './verb.ts'

export const perform: Perform = async ({ words: [word, ...words], directory, print }) => {
  const { user, ...target } = readDestination(word)
  return await sshSession({ ask: (question) => ask(directory, question), directory, target, user, words, tell: print.err })
}
