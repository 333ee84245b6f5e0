// `authorities`: the CAs of the EMS; rolled over, their keys wrapped anew.
import { listAuthorities, rewrapKeys, rollAuthority } from '../protocol/operations/admin.ts'
import type { Reply } from '../protocol/operation.ts'
import { command } from './command.ts'
import { at } from './instants.ts'
import { fields } from './printer.ts'
import { yes } from './values.ts'

type Authority = Reply<typeof listAuthorities>['items'][number]

async function* once<T>(items: Promise<readonly T[]>) {
  yield await items
}

export const authorityCommands = [
  command({
    name: 'authorities list', summary: 'The CAs: the active one, and those still trusted.', words: {}, options: {}, examples: ['authorities list', 'authorities list --json'],
    run: (_, { call, printer }) => printer.list<Authority>(once(call(listAuthorities, {}).then(({ items }) => items)), [
      { title: 'ID', cell: ({ id }) => id },
      { title: 'STATE', cell: ({ active }) => (active ? 'active' : 'trusted') },
      { title: 'ENDS', cell: ({ notAfter }) => at(notAfter) },
      { title: 'WRAPPED UNDER', cell: ({ wrappingKeyId }) => wrappingKeyId },
      { title: 'PIN (SHA-256)', cell: ({ pin }) => pin },
    ], 'There is no CA yet: the first request that needs one makes it.'),
  }),
  command({
    name: 'authorities roll', summary: 'Make a new CA; the old one stays trusted until it ends.', words: {}, options: { yes }, examples: ['authorities roll', 'authorities roll --yes'],
    async run({ options }, { call, printer, confirm }) {
      await confirm(options.yes, 'Make a new CA? Certificates come from it at once, and this can not be undone; the old one stays trusted until it ends.')
      const made = await call(rollAuthority, { body: {} })
      await printer.one(made, () => ['A new CA is active.', ...fields([['id', made.id], ['pin', made.pin], ['ends', at(made.notAfter)]])])
    },
  }),
  command({
    name: 'authorities rewrap', summary: 'Encrypt stored keys under the current wrapping key.', note: 'The current one is the first of WRAPPING_KEYS. Afterwards older ones may be taken out.', words: {}, options: {}, examples: ['authorities rewrap'],
    async run(_, { call, printer }) {
      const reply = await call(rewrapKeys, { body: {} })
      await printer.one(reply, () => [`${reply.rewrapped} CAs were wrapped anew.`])
    },
  }),
]
