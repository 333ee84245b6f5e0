// `agent ssh-config`: what to put into ~/.ssh/config.
import { existsSync } from 'node:fs'
import { UsageError } from '../../node/config.ts'
import { statusSocket } from '../local-status.ts'
import { configBlock } from '../ssh/config-block.ts'
import { keptDirectory } from '../ssh/kept.ts'
import type { Perform } from './verb.ts'

const PATTERN = /^[A-Za-z0-9*?_.:][A-Za-z0-9*?_.:-]{0,252}$/

export const perform: Perform = ({ words, directory, print }) => {
  const wrong = words.find((word) => !PATTERN.test(word))
  if (wrong !== undefined) throw new UsageError(`"${wrong}" is no pattern of hosts, like *.corp.example.`)
  print.out(configBlock({ directory, kept: keptDirectory(), patterns: words }))
  // They are right for when it runs; until then they lead nowhere, and plain ssh would not say so.
  if (!existsSync(statusSocket(directory))) print.err(`No agent runs with the state in ${directory} now: until one does, ssh goes to every host directly. --state DIR names another.`)
  return Promise.resolve(0)
}
