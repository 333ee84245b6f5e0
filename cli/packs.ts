// `packs`: rule packs, as files with a name and a version.
import { z } from 'zod'
import { checkPack, packOrder } from '../domain/tagging/pack.ts'
import { Fault } from '../protocol/faults.ts'
import { importPack, listPacks, readPack, removePack } from '../protocol/operations/packs.ts'
import { packInput, type Pack, type PackInput } from '../protocol/packs.ts'
import { line } from '../protocol/text.ts'
import { command, type Session } from './command.ts'
import { checkBy, readDefinitions, toYaml } from './definitions.ts'
import { describeDifference, differences, type Difference } from './differences.ts'
import { exportDefinitions } from './export-file.ts'
import { ago, at } from './instants.ts'
import { findNamed } from './named.ts'
import { allOf, pagesOf } from './pages.ts'
import { tryRuleSets } from './rule-set-trial.ts'
import { flag, force, target, yaml, yes } from './values.ts'

const check = checkBy(packInput, checkPack)
const pages = ({ call }: Session) => pagesOf((query) => call(listPacks, { query }))
const which = { says: 'the name of a pack, or its id', schema: line(128) }
const named = async (session: Session, word: string): Promise<Pack> => findNamed(await allOf(pages(session)), word, 'pack')

type Step = { readonly pack: PackInput; readonly action: 'import' | 'replace' | 'unchanged'; readonly before: string | null; readonly changes: readonly Difference[] }
/** By name, so that what moved in the file is no difference. */
const byName = ({ issuedAt, tags, ruleSets, ...rest }: PackInput) => ({
  ...rest, issuedAt: new Date(issuedAt).toISOString(), tags: Object.fromEntries(tags.map((each) => [each.name, each])), ruleSets: Object.fromEntries(ruleSets.map((each) => [each.name, each])),
})

/** What an import would do, and the refusals that the EMS would answer with. */
async function stepFor(session: Session, existing: readonly Pack[], pack: PackInput): Promise<Step> {
  const before = existing.find(({ name }) => name === pack.name)
  if (before === undefined) return { pack, action: 'import', before: null, changes: [] }
  const order = packOrder(pack.version, before.version)
  if (order < 0) throw new Fault('conflict', `Version ${before.version} of "${pack.name}" is there already; ${pack.version} is older.`)
  const { pack: stored } = await session.call(readPack, { params: { id: before.id } })
  const changes = differences(byName(stored), byName(pack))
  if (order === 0 && changes.length > 0) throw new Fault('conflict', `"${pack.name}" is there in version ${before.version} with other contents (${changes.map(({ pointer }) => pointer).slice(0, 5).join(', ')}): a pack that changed has a newer version.`)
  return { pack, action: changes.length === 0 ? 'unchanged' : 'replace', before: before.version, changes }
}

const preview = ({ pack, action, before, changes }: Step): string[] => {
  const what = `${pack.name}, version ${before === null || before === pack.version ? pack.version : `${before} → ${pack.version}`}`
  if (action !== 'import') return [`${action === 'replace' ? 'would be replaced' : 'unchanged'}: ${what}`, ...changes.map(describeDifference)]
  return [`would be imported: ${what}, issued ${at(Date.parse(pack.issuedAt))}`, ...pack.tags.map(({ name, type }) => `  tag "${name}" (${type})`), ...pack.ruleSets.map(({ name, tag, mode }) => `  rule set "${name}" gives "${tag}"${mode === 'shadow' ? ', report-only' : ''}`)]
}

export const packCommands = [
  command({
    name: 'packs list', summary: 'Rule packs, by id.', words: {}, options: {}, examples: ['packs list', 'packs list --json'],
    run: (_, session) => session.printer.list(pages(session), [
      { title: 'ID', cell: ({ id }) => id },
      { title: 'VERSION', cell: ({ version }) => version },
      { title: 'ISSUED', cell: ({ issuedAt }) => at(issuedAt) },
      { title: 'IMPORTED', cell: ({ importedAt }) => ago(importedAt, session.now()) },
      { title: 'RULE SETS', cell: ({ ruleSets }) => String(ruleSets) },
      { title: 'TAGS', cell: ({ tags }) => tags.join(', ') },
      { title: 'NAME', cell: ({ name }) => name },
    ], 'There is no pack yet: packs/ has examples, and packs import takes one.'),
  }),
  command({
    name: 'packs show', summary: 'One rule pack, in the form that import takes.', words: { 'ID-OR-NAME': which }, options: {}, examples: ['packs show "Linux laptop baseline"', 'packs show "Linux laptop baseline" --json'],
    async run({ words }, session) {
      const { id } = await named(session, words['ID-OR-NAME'])
      const { pack } = await session.call(readPack, { params: { id } })
      await session.printer.one(pack, () => toYaml(pack))
    },
  }),
  command({
    name: 'packs try', summary: 'Who would gain or lose a tag by a pack, over the stored facts of every endpoint. Changes nothing.',
    note: 'As rule-sets try does, for each rule set of the pack alone.',
    words: { FILE: { says: 'YAML or JSON, one pack or several; - reads standard input', schema: z.string().min(1) } }, options: {},
    examples: ['packs try packs/linux-laptop-baseline.yaml', 'packs try outbreak.json --json'],
    async run({ words }, session) {
      const definitions = readDefinitions(await session.read(words.FILE), words.FILE === '-' ? 'standard input' : words.FILE, check)
      await tryRuleSets(session, definitions.flatMap(({ body }) => body.ruleSets), true)
    },
  }),
  command({
    name: 'packs import', summary: 'Show what a pack would change, then import it once you say yes.',
    note: 'A newer version replaces the rule sets of the one before; an older one is refused. A file with a mistake changes nothing.',
    words: { FILE: { says: 'YAML or JSON, one pack or several; - reads standard input and needs --yes', schema: z.string().min(1) } }, options: { 'dry-run': flag('only say what would change'), yes },
    examples: ['packs import packs/linux-laptop-baseline.yaml', 'packs import packs/linux-laptop-baseline.yaml --dry-run', 'packs import outbreak.json --yes --json'],
    async run({ words, options }, session) {
      const { printer } = session
      const definitions = readDefinitions(await session.read(words.FILE), words.FILE === '-' ? 'standard input' : words.FILE, check)
      const existing = await allOf(pages(session))
      const steps = await Promise.all(definitions.map(({ body }) => stepFor(session, existing, body)))
      for (const step of steps) if (!printer.json || options['dry-run']) await printer.one({ name: step.pack.name, version: step.pack.version, action: step.action, dryRun: true, changes: step.changes }, () => preview(step))
      const changing = steps.filter(({ action }) => action !== 'unchanged')
      if (options['dry-run']) return
      if (changing.length > 0) await session.confirm(options.yes, `Import ${changing.length === 1 ? 'this pack' : `these ${changing.length} packs`}? What its rules give reaches every gateway at once.`)
      for (const { pack } of steps) {
        const { action, pack: taken } = await session.call(importPack, { body: pack })
        await printer.one({ name: taken.name, version: taken.version, action, dryRun: false, id: taken.id }, () => [`${action}: ${taken.name}, version ${taken.version}`])
      }
    },
  }),
  command({
    name: 'packs export', summary: 'A rule pack, as a file that import takes.', words: { 'ID-OR-NAME': which, 'FILE': target }, options: { yaml, force },
    examples: ['packs export "Linux laptop baseline"', 'packs export "Linux laptop baseline" baseline.yaml', 'packs export "Linux laptop baseline" baseline.json --json'],
    async run({ words, options }, session) {
      const { id, name } = await named(session, words['ID-OR-NAME'])
      const { pack } = await session.call(readPack, { params: { id } })
      await exportDefinitions(session, pack, words.FILE, options, `The pack "${name}"`)
    },
  }),
  command({
    name: 'packs remove', summary: 'Remove a rule pack and whatever it tagged.', words: { 'ID-OR-NAME': which }, options: { yes }, examples: ['packs remove "Linux laptop baseline"', 'packs remove "Linux laptop baseline" --yes'],
    async run({ words, options }, session) {
      const { id, name, tags } = await named(session, words['ID-OR-NAME'])
      await session.confirm(options.yes, `Remove the pack "${name}"? Endpoints lose what only it gave (${tags.join(', ')}) at once, and with it what those tags open.`)
      await session.printer.done(await session.call(removePack, { params: { id } }), `The pack "${name}" is removed.`)
    },
  }),
]
