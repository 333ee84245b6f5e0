// `tags`: Zero Trust tags. Rule sets make them; there is nothing else to do with one here.
import { listTags } from '../protocol/operations/admin.ts'
import { tagTypes, type Tag } from '../protocol/rules.ts'
import { command, type Session } from './command.ts'
import { allOf, pagesOf } from './pages.ts'

const pages = ({ call }: Session) => pagesOf((query) => call(listTags, { query }))
export const readTags = (session: Session): Promise<Tag[]> => allOf(pages(session))

export const tagCommands = [
  command({
    name: 'tags list', summary: 'Zero Trust tags, by UID.', words: {}, options: {}, examples: ['tags list', 'tags list --json'],
    run: (_, session) => session.printer.list(pages(session), [
      { title: 'UID', cell: ({ uid }) => uid },
      { title: 'TYPE', cell: ({ type }) => tagTypes[type] },
      { title: 'NAME', cell: ({ name }) => name },
    ], 'There is no tag yet: a rule set makes its own.'),
  }),
]
