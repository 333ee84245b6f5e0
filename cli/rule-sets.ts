// `rule-sets`: tagging rule sets as administrators keep them in files.
import { checkRuleSet } from '../domain/tagging/rule-set.ts'
import { inOrder } from '../domain/tagging/tag-order.ts'
import { tagsReadBy } from '../domain/tagging/tags-read.ts'
import { createRuleSet, deleteRuleSet, listRuleSets, readRuleSet, replaceRuleSet } from '../protocol/operations/admin.ts'
import { ruleSetInput, type RuleSet, type RuleSetInput } from '../protocol/rules.ts'
import { definedCommands } from './defined.ts'
import { checkBy } from './definitions.ts'
import { pagesOf } from './pages.ts'
import { counted } from './printer.ts'
import { ruleSetTrials } from './rule-set-trial.ts'

const check = checkBy(ruleSetInput, checkRuleSet)

export const ruleSetCommands = [...ruleSetTrials(check), ...definedCommands<RuleSet, RuleSetInput>({
  noun: 'rule-sets', one: 'rule set',
  columns: [
    { title: 'ID', cell: ({ id }) => id },
    { title: 'TAG', cell: ({ tag }) => tag },
    { title: 'ENABLED', cell: ({ enabled, mode }) => (enabled ? mode === 'shadow' ? 'report-only' : 'yes' : 'no') },
    { title: 'CONDITIONS', cell: ({ rules }) => Object.entries(rules).map(([os, each]) => `${os} ${each?.conditions.length ?? 0}`).join(', ') },
    { title: 'PACK', cell: ({ packId }) => (packId === undefined ? '' : 'yes') },
    { title: 'NAME', cell: ({ name }) => name },
  ],
  pages: ({ call }) => pagesOf((query) => call(listRuleSets, { query })),
  bodyOf: ({ name, enabled, tag, message, comment, mode, transitionSeconds, rules }) => ({ name, enabled, tag, message, comment, mode, transitionSeconds, rules }),
  create: ({ call }, body) => call(createRuleSet, { body }),
  replace: ({ call }, id, body) => call(replaceRuleSet, { params: { id }, body }),
  // A rule set that reads a tag is refused while nothing gives it; in an exported file the giver may stand behind.
  ordered(definitions) {
    const { order, circular } = inOrder(definitions.map((definition) => ({ of: definition, gives: definition.body.tag, reads: tagsReadBy(definition.body) })))
    return [...order, ...circular]
  },
  remove: ({ call }, id) => call(deleteRuleSet, { params: { id } }),
  deleting: 'Endpoints that only it gave its tag lose the tag at once, and with it what the tag opens.',
  exports: { takes: ({ packId }) => packId === undefined, note: 'Without those of packs: packs export writes them.' },
  fileForm: () => Promise.resolve({ check, toFile: (body) => body }),
  example: { name: 'disk encrypted', file: 'rules.yaml' },
  async more({ call }, { id, mode }) {
    const { standing } = await call(readRuleSet, { params: { id } })
    const owing = `${standing.owing} ${standing.owing === 1 ? 'waits for an answer of its agent' : 'wait for an answer of their agent'}${standing.standing === 0 ? '' : `, of which ${standing.standing} ${standing.standing === 1 ? 'stands' : 'stand'} as before the edit until it comes or the transition ends`}`
    return { json: { standing }, lines: [`${mode === 'shadow' ? 'Report-only: would give' : 'Gives'} its tag to ${counted(standing.holds, 'endpoint')}; unknown for ${standing.unknown}; ${owing}.`] }
  },
})]
