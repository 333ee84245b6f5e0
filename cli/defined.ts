// The commands that every kind of definition has: list, show, apply, import, export, delete. What a kind is stands with its noun.
import { z } from 'zod'
import { line } from '../protocol/text.ts'
import { applyDefinitions } from './apply.ts'
import { command, type Command, type Session } from './command.ts'
import { readDefinitions, toYaml, type Check, type Definition } from './definitions.ts'
import { exportDefinitions } from './export-file.ts'
import { findNamed } from './named.ts'
import { allOf } from './pages.ts'
import type { Column } from './printer.ts'
import { flag, force, target, yaml, yes } from './values.ts'

export interface Kind<Item extends { readonly id: string; readonly name: string }, Body extends { readonly name: string }> {
  /** `rule-sets`, and for sentences `rule set`. */
  readonly noun: string
  readonly one: string
  readonly columns: readonly Column<Item>[]
  pages(session: Session): AsyncIterable<readonly Item[]>
  bodyOf(item: Item): Body
  create(session: Session, body: Body): Promise<Item>
  replace(session: Session, id: string, body: Body): Promise<Item>
  remove(session: Session, id: string): Promise<unknown>
  /** In which order they are brought to the EMS, where one needs another to be there; as they stand in the file unless said. */
  ordered?(definitions: readonly Definition<Body>[]): readonly Definition<Body>[]
  /** What goes with one that is deleted, for the question. */
  readonly deleting: string
  /** Learns what a file may refer to; gives the check of one definition, and how one is written into a file. */
  fileForm(session: Session): Promise<{ check: Check<Body>; toFile(body: Body): unknown }>
  /** What show says of one beside its definition, which no file holds. */
  more?(session: Session, item: Item): Promise<{ readonly json: object; readonly lines: readonly string[] }>
  /** Which are written by export, where not all are; and why, for help. */
  readonly exports?: { takes(item: Item): boolean; readonly note: string }
  /** A name and a file, for examples. */
  readonly example: { readonly name: string; readonly file: string }
}

/** The six commands of one kind. */
export function definedCommands<Item extends { readonly id: string; readonly name: string }, Body extends { readonly name: string }>(kind: Kind<Item, Body>): Command[] {
  const { noun, one, example } = kind
  const which = { says: `the id of the ${one}, or its name`, schema: line(128) }
  const read = (text: string, file: string, check: Check<Body>) => {
    const definitions = readDefinitions(text, file === '-' ? 'standard input' : file, check)
    return kind.ordered?.(definitions) ?? definitions
  }
  const written = async (session: Session, items: readonly Item[]) => {
    const { toFile } = await kind.fileForm(session)
    return items.map((item) => toFile(kind.bodyOf(item)))
  }
  return [
    command({
      name: `${noun} list`, summary: `Every ${one}.`, words: {}, options: {}, examples: [`${noun} list`, `${noun} list --json`],
      run: (_, session) => session.printer.list(kind.pages(session), kind.columns, `There is no ${one} yet.`),
    }),
    command({
      name: `${noun} show`, summary: `One ${one}, in the form that apply takes.`, words: { 'ID-OR-NAME': which }, options: {}, examples: [`${noun} show "${example.name}"`],
      async run({ words }, session) {
        const item = findNamed(await allOf(kind.pages(session)), words['ID-OR-NAME'], one)
        const [definition] = await written(session, [item])
        const more = await kind.more?.(session, item)
        await session.printer.one({ ...item, ...more?.json }, () => [`# ${item.id}`, ...(more?.lines ?? []).map((said) => `# ${said}`), ...toYaml(definition)])
      },
    }),
    command({
      name: `${noun} apply`, summary: 'Create or replace, by name, what a file defines.',
      note: 'What the file does not name stays as it is; what is the same already is left alone. A file with a mistake changes nothing.',
      words: { FILE: { says: 'YAML or JSON: one, a list, or several documents; - reads standard input', schema: z.string().min(1) } },
      options: { 'dry-run': flag('only say what would change') },
      examples: [`${noun} apply ${example.file} --dry-run`, `${noun} apply ${example.file}`, `${noun} apply -`],
      async run({ words, options }, session) {
        const text = await session.read(words.FILE)
        const { check } = await kind.fileForm(session)
        const definitions = read(text, words.FILE, check)
        await applyDefinitions(session, kind, await allOf(kind.pages(session)), definitions, options['dry-run'])
      },
    }),
    command({
      name: `${noun} import`, summary: 'Show what a file would change, then apply it once you say yes.',
      note: 'As apply does, after a preview and a question.',
      words: { FILE: { says: 'YAML or JSON, as export writes it; - reads standard input and needs --yes', schema: z.string().min(1) } }, options: { yes },
      examples: [`${noun} import ${example.file}`, `${noun} import ${example.file} --yes`],
      async run({ words, options }, session) {
        const text = await session.read(words.FILE)
        const { check } = await kind.fileForm(session)
        const [definitions, existing] = [read(text, words.FILE, check), await allOf(kind.pages(session))]
        const changing = await applyDefinitions(session, kind, existing, definitions, true)
        if (changing === 0) return await session.printer.say('Everything is so already.')
        await session.confirm(options.yes, `Take ${changing === 1 ? 'this change' : `these ${changing} changes`}?`)
        await applyDefinitions(session, kind, existing, definitions, false)
      },
    }),
    command({
      name: `${noun} export`, summary: `Every ${one}, as a file that apply and import take.`, ...kind.exports === undefined ? {} : { note: kind.exports.note },
      words: { FILE: target }, options: { yaml, force }, examples: [`${noun} export`, `${noun} export ${example.file}`, `${noun} export ${example.file.replace('.yaml', '.json')} --json`],
      async run({ words, options }, session) {
        const definitions = await written(session, (await allOf(kind.pages(session))).filter((item) => kind.exports?.takes(item) ?? true))
        await exportDefinitions(session, definitions, words.FILE, options, `${definitions.length} of the kind ${one}`)
      },
    }),
    command({
      name: `${noun} delete`, summary: `Remove one ${one}.`, words: { 'ID-OR-NAME': which }, options: { yes }, examples: [`${noun} delete "${example.name}"`, `${noun} delete "${example.name}" --yes`],
      async run({ words, options }, session) {
        const item = findNamed(await allOf(kind.pages(session)), words['ID-OR-NAME'], one)
        await session.confirm(options.yes, `Delete the ${one} "${item.name}"? ${kind.deleting}`)
        await session.printer.done(await kind.remove(session, item.id), `The ${one} "${item.name}" is deleted.`)
      },
    }),
  ]
}
