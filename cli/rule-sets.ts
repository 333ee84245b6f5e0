// `rule-sets`: tagging rule sets as administrators keep them in files.
import { checkRuleSet } from '../domain/tagging/rule-set.ts'
import { createRuleSet, deleteRuleSet, listRuleSets, replaceRuleSet } from '../protocol/operations/admin.ts'
import { ruleSetInput, type RuleSet, type RuleSetInput } from '../protocol/rules.ts'
import { definedCommands } from './defined.ts'
import { checkBy } from './definitions.ts'
import { pagesOf } from './pages.ts'

const check = checkBy(ruleSetInput, checkRuleSet)

export const ruleSetCommands = definedCommands<RuleSet, RuleSetInput>({
  noun: 'rule-sets', one: 'rule set',
  columns: [
    { title: 'ID', cell: ({ id }) => id },
    { title: 'TAG', cell: ({ tag }) => tag },
    { title: 'ENABLED', cell: ({ enabled }) => (enabled ? 'yes' : 'no') },
    { title: 'CONDITIONS', cell: ({ rules }) => Object.entries(rules).map(([os, each]) => `${os} ${each?.conditions.length ?? 0}`).join(', ') },
    { title: 'NAME', cell: ({ name }) => name },
  ],
  pages: ({ call }) => pagesOf((query) => call(listRuleSets, { query })),
  bodyOf: ({ name, enabled, tag, message, comment, mode, transitionSeconds, rules }) => ({ name, enabled, tag, message, comment, mode, transitionSeconds, rules }),
  create: ({ call }, body) => call(createRuleSet, { body }),
  replace: ({ call }, id, body) => call(replaceRuleSet, { params: { id }, body }),
  remove: ({ call }, id) => call(deleteRuleSet, { params: { id } }),
  deleting: 'Endpoints that only it gave its tag lose the tag at once, and with it what the tag opens.',
  fileForm: () => Promise.resolve({ check, toFile: (body) => body }),
  example: { name: 'disk encrypted', file: 'rules.yaml' },
})
