// `agent explain`: why a tag is as it is, or why a decision was taken.
import { UsageError } from '../../node/config.ts'
import { explanation } from '../local-status.ts'
import { describeExplanation } from '../print.ts'
import { ask } from './ask.ts'
import { show, type Perform } from './verb.ts'

export const perform: Perform = async (call) => {
  const [subject] = call.words
  if (subject === undefined) throw new UsageError('explain needs a tag, or the id of a decision.')
  const told = explanation.parse(await ask(call.directory, { ask: 'explain', subject }))
  show(call, told, describeExplanation(told, Date.now()))
  return 0
}
