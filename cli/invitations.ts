// `invitations`: by which endpoints enrol. The text of one is shown once, when it is made.
import { z } from 'zod'
import { createInvitation, listInvitations, withdrawInvitation } from '../protocol/operations/admin.ts'
import { uuid } from '../protocol/ids.ts'
import { ownership } from '../protocol/ownership.ts'
import { line } from '../protocol/text.ts'
import { command } from './command.ts'
import { atAndAgo } from './instants.ts'
import { pagesOf } from './pages.ts'
import { duration, wholeNumber } from './values.ts'

export const invitationCommands = [
  command({
    name: 'invitations create', summary: 'Invite endpoints; the text is shown once.', words: {},
    options: {
      'name': { takes: 'TEXT', says: 'for whom or what it is', schema: line(128).default('command line') },
      'uses': { takes: 'N', says: 'how many endpoints may enrol with it; 1 unless said', schema: wholeNumber.optional() },
      'expires-in': { takes: 'SPAN', says: 'like 90m, 24h or 7d; 24h unless said', schema: duration.optional() },
      'group': { takes: 'NAME', says: 'the group of endpoints that enrol with it', schema: z.string().optional() },
      'ownership': { takes: 'WHOSE', says: 'corporate or personal, for policies that ask whose device it is; they refuse it while that is not said', schema: ownership.optional() },
    },
    examples: ['invitations create', 'invitations create --name "sales, autumn" --uses 40 --expires-in 7d --group sales --ownership corporate', 'invitations create --json'],
    async run({ options }, { call, printer, now }) {
      const made = await call(createInvitation, { body: { name: options.name, uses: options.uses, expiresInSeconds: options['expires-in'], group: options.group, ownership: options.ownership } })
      await printer.one(made, () => [made.text])
      if (!printer.json) await printer.say(`Shown once; good for ${made.uses === 1 ? 'one endpoint' : `${made.uses} endpoints`}, until ${atAndAgo(made.expiresAt, now())}. On the endpoint: agent enrol ${made.text.slice(0, 12)}…`)
    },
  }),
  command({
    name: 'invitations list', summary: 'Invitations, newest first.', words: {}, options: {}, examples: ['invitations list', 'invitations list --json'],
    run: (_, { call, printer, now }) => printer.list(pagesOf((query) => call(listInvitations, { query })), [
      { title: 'ID', cell: ({ id }) => id },
      { title: 'USED', cell: ({ used, uses }) => `${used} of ${uses}` },
      { title: 'EXPIRES', cell: ({ expiresAt }) => atAndAgo(expiresAt, now()) },
      { title: 'GROUP', cell: ({ group }) => group },
      { title: 'OWNERSHIP', cell: ({ ownership: whose }) => whose ?? '' },
      { title: 'NAME', cell: ({ name }) => name },
    ], 'There is no invitation.'),
  }),
  command({
    name: 'invitations withdraw', summary: 'Nobody enrols with it any more; who has, stays.', words: { ID: { says: 'of the invitation', schema: uuid } }, options: {},
    examples: ['invitations withdraw 00000000-0000-4000-8000-000000000009'],
    async run({ words }, { call, printer }) {
      await printer.done(await call(withdrawInvitation, { params: { id: words.ID } }), 'The invitation is withdrawn.')
    },
  }),
]
