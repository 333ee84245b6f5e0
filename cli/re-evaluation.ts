// `re-evaluation`: how far the last edit of the rules has come.
import { reEvaluation } from '../protocol/operations/admin.ts'
import { command } from './command.ts'
import { ago } from './instants.ts'
import { fields } from './printer.ts'

export const reEvaluationCommands = [
  command({
    name: 're-evaluation show', summary: 'How far the last edit of the rules has come.', words: {}, options: {}, examples: ['re-evaluation show', 're-evaluation show --json'],
    async run(_, { call, printer, now }) {
      const state = await call(reEvaluation, {})
      const { revision, evaluatedRevision, running, total, done, since, aside } = state
      await printer.one(state, () => fields([
        ['rules', `revision ${revision}; every endpoint is evaluated with revision ${evaluatedRevision}`],
        ['endpoints', running ? `${done} of ${total} done, began ${ago(since, now())}` : 'none is behind'],
        ...(aside === 0 ? [] : [['set aside', `${aside} could not be evaluated and are tried again; the EMS's log says why`] as const]),
      ]))
    },
  }),
]
