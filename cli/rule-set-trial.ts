// `rule-sets try` and `rule-sets who`: whom a rule set would change before it is saved, and whom it holds for once it is.
import { z } from 'zod'
import type { Reply } from '../protocol/operation.ts'
import { dryRunRuleSet, listRuleSets, ruleSetEndpoints } from '../protocol/operations/admin.ts'
import type { RuleSet, RuleSetInput } from '../protocol/rules.ts'
import { line } from '../protocol/text.ts'
import { command, type Session } from './command.ts'
import { readDefinitions, type Check } from './definitions.ts'
import { at } from './instants.ts'
import { findNamed } from './named.ts'
import { allOf, pagesOf } from './pages.ts'
import { counted, type Column } from './printer.ts'

type Item = Reply<typeof dryRunRuleSet>['items'][number]
type Counts = Record<Item['change'], number> & { examined: number }
const TELL_EVERY_MS = 2_000
const says: Readonly<Record<Item['change'], string>> = {
  gains: 'would gain the tag', loses: 'would lose the tag', clears: 'would be without it for certain', unknown: 'would become unknown', owes: 'owe an answer of their agent first, unknown without it',
}

const columns: readonly Column<Item>[] = [
  { title: 'UID', cell: ({ uid }) => uid },
  { title: 'CHANGE', cell: ({ change }) => change },
  { title: 'TAG', cell: ({ tag, before, after }) => `${tag}: ${before} → ${after}` },
  { title: 'HOST', cell: ({ hostName }) => hostName },
]

/** Page after page of what would change; `counts` are summed up on the way, and it is said how far it has come. */
async function* changes({ call, printer, now }: Session, ruleSet: RuleSetInput, replaces: string | null, inPack: boolean, counts: Counts): AsyncGenerator<readonly Item[]> {
  let [total, told]: [number | null, number] = [null, now()]
  for (let after: string | undefined; ;) {
    const page = await call(dryRunRuleSet, { body: { ruleSet, replaces, inPack, ...(after === undefined ? {} : { after }) } })
    total ??= page.total
    counts.examined += page.examined
    for (const { change } of page.items) counts[change]++
    yield page.items
    if (page.next === null) return
    if (now() - told >= TELL_EVERY_MS) {
      told = now()
      await printer.say(`${counts.examined} of ${total ?? counts.examined} endpoints`)
    }
    after = page.next
  }
}

/** Tries each alone, and tells whom it would change. */
export async function tryRuleSets(session: Session, ruleSets: readonly RuleSetInput[], inPack: boolean): Promise<void> {
  const { printer, call } = session
  const existing = await allOf(pagesOf((query) => call(listRuleSets, { query })))
  for (const body of ruleSets) {
    const replaces = existing.some(({ name }) => name === body.name) ? findNamed(existing, body.name, 'rule set').id : null
    const counts: Counts = { examined: 0, gains: 0, loses: 0, clears: 0, unknown: 0, owes: 0 }
    if (printer.json) for await (const items of changes(session, body, replaces, inPack, counts)) for (const item of items) await printer.one({ ruleSet: body.name, ...item }, () => [])
    else await printer.list(changes(session, body, replaces, inPack, counts), columns, 'Nobody’s tags would change.')
    const { examined, ...sums } = counts
    await printer.one({ ruleSet: body.name, replaces, counts }, () => [`${body.name} (${replaces === null ? 'new' : 'an edit'}): ${counted(examined, 'endpoint')}`, ...Object.entries(sums).map(([change, count]) => `  ${count} ${says[change as Item['change']]}`)])
  }
}

export const ruleSetTrials = (check: Check<RuleSetInput>) => [
  command({
    name: 'rule-sets try', summary: 'Who would gain or lose a tag by what a file defines, over the stored facts of every endpoint. Changes nothing.',
    note: 'What a rule set may ask stands in docs/rules.md. Each rule set of the file is tried alone, as if it were enforced, in place of the one that bears its name; one that is enforced now and becomes report-only takes its tag away. With --json one line an endpoint, then one line with the sums of each rule set.',
    words: { FILE: { says: 'YAML or JSON, as apply takes it; - reads standard input', schema: z.string().min(1) } }, options: {},
    examples: ['rule-sets try rules.yaml', 'rule-sets try rules.yaml --json'],
    async run({ words }, session) {
      const definitions = readDefinitions(await session.read(words.FILE), words.FILE === '-' ? 'standard input' : words.FILE, check)
      await tryRuleSets(session, definitions.map(({ body }) => body), false)
    },
  }),
  command({
    name: 'rule-sets who', summary: 'Endpoints for which a rule set holds or is unknown; of a report-only one, who would have its tag.',
    words: { 'ID-OR-NAME': { says: 'the id of the rule set, or its name', schema: line(128) } }, options: {}, examples: ['rule-sets who "disk encrypted"', 'rule-sets who "disk encrypted" --json'],
    async run({ words }, { call, printer }) {
      const { id }: RuleSet = findNamed(await allOf(pagesOf((query) => call(listRuleSets, { query }))), words['ID-OR-NAME'], 'rule set')
      await printer.list(pagesOf((query) => call(ruleSetEndpoints, { params: { id }, query })), [
        { title: 'UID', cell: ({ uid }) => uid },
        { title: 'HOLDS', cell: ({ value }) => (value === 'true' ? 'yes' : value === 'false' ? 'no' : 'unknown') },
        { title: 'AGENT', cell: ({ owes, standsUntil }) => (standsUntil !== null ? `owes an answer; stands as before until ${at(standsUntil)}` : owes ? 'owes an answer' : '') },
        { title: 'HOST', cell: ({ hostName }) => hostName },
      ], 'It holds for nobody.')
    },
  }),
]
