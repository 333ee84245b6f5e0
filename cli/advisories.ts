// `advisories` and `packages`: importing what is published, and asking what it means for the fleet.
import { setTimeout as pause } from 'node:timers/promises'
import { advisoryId, advisorySource, MOST_IMPORT_BYTES, MOST_RECORDS, nvdRecord, osvRecord, type PackageHolder, type Vulnerability } from '../protocol/advisory.ts'
import { LEFT_OUT } from '../domain/vulnerability/kept.ts'
import { Fault } from '../protocol/faults.ts'
import { uid } from '../protocol/ids.ts'
import { findAffected, findPackage, importAdvisories, listAdvisories, readVulnerabilities, readVulnerabilityState } from '../protocol/operations/advisories.ts'
import { line } from '../protocol/text.ts'
import { command, type Session } from './command.ts'
import { ago } from './instants.ts'
import { pagesOf } from './pages.ts'
import type { Column } from './printer.ts'
import { recordsOf } from './records.ts'
import { flag, wholeNumber } from './values.ts'

interface Refused { readonly line: number; readonly id: string | null; readonly reason: string }
interface Placed { readonly line: number; readonly text: string }
const TRIES = 10
const TELL_EVERY_MS = 2_000
const SHOWN_REFUSALS = 20

/** What the EMS reads of a record, and no more: prose and references stay here. */
function reduced(value: unknown, at: number): { ok: true; text: string } | { ok: false; refused: Refused } {
  const isNvd = typeof value === 'object' && value !== null && Object.hasOwn(value, 'cve')
  const parsed = isNvd ? nvdRecord.safeParse(value) : osvRecord.safeParse(value)
  const refuse = (reason: string) => ({ ok: false as const, refused: { line: at, id: idOf(value), reason } })
  if (!parsed.success) return refuse(`${parsed.error.issues[0]?.path.join('/') ?? ''}: ${parsed.error.issues[0]?.message ?? 'is not an advisory'}`.replace(/^: /, ''))
  const text = JSON.stringify(parsed.data)
  return Buffer.byteLength(text) > MOST_IMPORT_BYTES - 1_024 ? refuse('is larger than a page') : { ok: true, text }
}
const idOf = (value: unknown): string | null => {
  const { id } = value !== null && typeof value === 'object' ? value as { id?: unknown } : {}
  return typeof id === 'string' ? id : null
}
/** An answer of NVD's API holds its records in a list. */
const within = (value: unknown): unknown[] => (value !== null && typeof value === 'object' && Array.isArray((value as { vulnerabilities?: unknown }).vulnerabilities) ? (value as { vulnerabilities: unknown[] }).vulnerabilities : [value])

/** Pages of a file, each as many records as an import takes; refusals go to `refused` with their lines. */
async function* pagesOfFile(chunks: AsyncIterable<string>, skip: number, refused: Refused[]): AsyncGenerator<{ readonly page: readonly Placed[]; readonly read: number; readonly last: boolean }> {
  let page: Placed[] = []
  let [bytes, read] = [0, 0]
  for await (const record of recordsOf(chunks)) {
    if (!record.ok) {
      read++
      if (read > skip) refused.push({ line: record.line, id: null, reason: record.reason })
      continue
    }
    for (const value of within(record.value)) {
      if (++read <= skip) continue
      const taken = reduced(value, record.line)
      if (!taken.ok) {
        refused.push(taken.refused)
        continue
      }
      const size = Buffer.byteLength(taken.text) + 1
      if (page.length === MOST_RECORDS || bytes + size > MOST_IMPORT_BYTES - 1_024) {
        yield { page, read: read - 1, last: false }
        page = []
        bytes = 0
      }
      page.push({ line: record.line, text: taken.text })
      bytes += size
    }
  }
  yield { page, read, last: true }
}

/** Sent again while the EMS is busy; what it has taken meanwhile it leaves alone. */
async function send({ call }: Session, source: string, page: readonly Placed[], whole: boolean) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await call(importAdvisories, { body: { source, records: page.map(({ text }) => JSON.parse(text) as unknown), whole } })
    } catch (cause) {
      if (!(cause instanceof Fault) || cause.code !== 'busy' || attempt === TRIES) throw cause
      await pause((cause.extras.retryAfterSeconds ?? 1) * 1_000)
    }
  }
}

const holderColumns: readonly Column<PackageHolder>[] = [
  { title: 'UID', cell: (holder) => holder.uid },
  { title: 'HOST', cell: ({ hostName }) => hostName },
  { title: 'PACKAGES', cell: ({ packages }) => packages.map(({ ecosystem, name, version }) => `${name} ${version} (${ecosystem})`).join(', ') },
]
async function* pagesOfHolders(ask: (after: number) => Promise<{ items: PackageHolder[]; next: number | null }>): AsyncGenerator<readonly PackageHolder[]> {
  for (let after: number | null = 0; after !== null;) {
    const page: { items: PackageHolder[]; next: number | null } = await ask(after)
    yield page.items
    if (page.next !== null && page.next <= after) throw new Fault('internal', 'The EMS gave the same page twice.')
    after = page.next
  }
}
const inOne = async function* <Item>(items: readonly Item[]): AsyncGenerator<readonly Item[]> { yield await Promise.resolve(items) }

export const advisoryCommands = [
  command({
    name: 'advisories import', summary: 'Import advisories as published: OSV records, or CVEs of NVD\'s API for their severities.',
    note: 'FILE holds one record a line, an array, or one record; - is standard input. Without --whole, vulnerable endpoints are found, but none counts as clean. Records that are known are left alone, so a file may be imported again. Refused records are told with their lines; the others are taken.',
    words: { FILE: { says: 'of records', schema: line(4096) } },
    options: {
      source: { takes: 'NAME', says: 'the feed that they come from', schema: advisorySource.default('osv') },
      whole: flag('the file is all that the feed knows: packages that it does not name then count as looked at'),
      skip: { takes: 'N', says: 'go on after so many records of the file', schema: wholeNumber.default(0) },
    },
    examples: ['advisories import osv-pypi.ndjson --source pypa --whole', 'advisories import one-advisory.json'],
    async run({ words, options }, session) {
      const { printer, now } = session
      const [refused, doubted]: [Refused[], Refused[]] = [[], []]
      const sum = { records: 0, taken: 0, unchanged: 0, ignored: 0 }
      let told = now()
      for await (const { page, read, last } of pagesOfFile(session.open(words.FILE), options.skip, refused)) {
        // A file of which nothing could be taken is no whole of anything.
        const whole = last && options.whole && refused.length < read - options.skip
        if (page.length > 0 || whole) {
          const reply = await send(session, options.source, page, whole).catch((cause: unknown) => {
            throw cause instanceof Fault ? new Fault(cause.code, `${cause.message} ${sum.records} records of the file are done: go on with --skip ${sum.records}.`, { ...cause.extras, cause: cause.cause }) : cause
          })
          sum.taken += reply.taken
          sum.unchanged += reply.unchanged
          sum.ignored += reply.ignored
          const placed = ({ index, id, reason }: (typeof reply.refused)[number]): Refused => ({ line: page[index]?.line ?? 0, id, reason })
          refused.push(...reply.refused.map(placed))
          doubted.push(...reply.doubted.map(placed))
        }
        sum.records = read
        if (now() - told < TELL_EVERY_MS) continue
        told = now()
        await printer.say(`${sum.records} records: ${sum.taken} taken, ${sum.unchanged} known, ${sum.ignored} of no use here, ${refused.length} refused`)
      }
      refused.sort((a, b) => a.line - b.line)
      await printer.one({ ...sum, refused, doubted }, () => [`${sum.records} records: ${sum.taken} taken, ${sum.unchanged} known, ${sum.ignored} of no use here (no package that is matched), ${refused.length} refused`])
      if (!printer.json) for (const { line: at, id, reason } of refused.slice(0, SHOWN_REFUSALS)) await printer.say(`line ${at}${id === null ? '' : ` (${id})`}: ${reason}`)
      if (!printer.json) for (const { line: at, id, reason } of doubted.slice(0, SHOWN_REFUSALS)) await printer.say(`line ${at} (${id ?? ''}) is taken: ${reason}`)
      if (doubted.length > SHOWN_REFUSALS && !printer.json) await printer.say(`and ${doubted.length - SHOWN_REFUSALS} more that are taken for more than they may mean: --json lists them all`)
      if (refused.length > SHOWN_REFUSALS && !printer.json) await printer.say(`and ${refused.length - SHOWN_REFUSALS} more: --json lists them all`)
      if (sum.records > options.skip && refused.length === sum.records - options.skip) throw new Error('Every record was refused.')
    },
  }),
  command({
    name: 'advisories list', summary: 'Advisories by id; of one id, of a CVE, or naming a package.', words: { TEXT: { says: 'an advisory\'s id, a CVE, or a package\'s name', schema: line(256).optional() } }, options: {},
    examples: ['advisories list CVE-2020-14343', 'advisories list pyyaml --json'],
    run: ({ words }, { call, printer }) => printer.list(pagesOf((query) => call(listAdvisories, { query: { ...query, ...(words.TEXT === undefined ? {} : { text: words.TEXT }) } })), [
      { title: 'ID', cell: ({ id }) => id },
      { title: 'SEVERITY', cell: ({ severity, withdrawn }) => (withdrawn ? 'withdrawn' : severity) },
      { title: 'SOURCE', cell: ({ source }) => source },
      { title: 'CVES', cell: ({ aliases }) => aliases.join(', ') },
      { title: 'SUMMARY', cell: ({ summary }) => summary },
    ], 'No such advisory has been imported.'),
  }),
  command({
    name: 'advisories status', summary: 'How many advisories are known, of which ecosystems, and how old they are.', words: {}, options: {}, examples: ['advisories status'],
    async run(_, { call, printer, now }) {
      const state = await call(readVulnerabilityState, {})
      await printer.one(state, () => [
        `${state.advisories} advisories; ${state.packages} packages in the fleet, ${state.affectedPackages} of them affected${state.settled ? '' : '; endpoints are still being worked out'}`,
        ...state.feeds.map(({ ecosystem, source, asOf }) => `  ${ecosystem} by ${source}: ${asOf === null ? 'in part' : `whole, ${ago(asOf, now())}`}`),
      ])
    },
  }),
  command({
    name: 'advisories affected', summary: 'Who is affected by an advisory or a CVE.', words: { ADVISORY: { says: 'or CVE', schema: advisoryId } }, options: {}, examples: ['advisories affected CVE-2020-14343'],
    missing: ({ ADVISORY }) => `cli advisories list ${ADVISORY} shows whether it has been imported.`,
    run: ({ words }, { call, printer }) => printer.list(pagesOfHolders((after) => call(findAffected, { body: { advisory: words.ADVISORY, after, limit: 200 } })), holderColumns, 'Nobody is affected.'),
  }),
  command({
    name: 'packages find', summary: 'Who has a package.', words: { NAME: { says: 'of the package', schema: line(256) } },
    options: {
      ecosystem: { takes: 'NAME', says: 'as OSV writes it, like Debian:12 or PyPI', schema: line(128).optional() },
      version: { takes: 'VERSION', says: 'exactly that one', schema: line(128).optional() },
    },
    examples: ['packages find openssl', 'packages find pyyaml --ecosystem PyPI --version 5.3.1'],
    run: ({ words, options }, { call, printer }) => printer.list(pagesOfHolders((after) => call(findPackage, { body: { name: words.NAME, ...options, after, limit: 200 } })), holderColumns, 'Nobody has it.'),
  }),
  command({
    name: 'endpoints vulnerabilities', summary: 'Vulnerabilities of an endpoint\'s software, the worst first, with what mends them.', words: { UID: { says: 'of the endpoint: 32 hex digits', schema: uid } }, options: {},
    examples: ['endpoints vulnerabilities 0123456789abcdef0123456789abcdef'],
    async run({ words }, { call, printer }) {
      const { items, total, uncovered } = await call(readVulnerabilities, { params: { uid: words.UID } })
      await printer.list<Vulnerability>(inOne(items), [
        { title: 'ID', cell: ({ id }) => id },
        { title: 'SEVERITY', cell: ({ severity }) => severity },
        { title: 'PACKAGE', cell: (each) => each.package },
        { title: 'INSTALLED', cell: ({ installed }) => installed },
        { title: 'FIXED', cell: ({ fixed }) => fixed ?? 'not yet' },
        { title: 'ECOSYSTEM', cell: ({ ecosystem }) => ecosystem },
      ], uncovered === null ? 'It has reported no software.' : 'No vulnerability is known.')
      if (items.length < total) await printer.say(`The worst ${items.length} of ${total}.`)
      const unknown = uncovered?.filter((ecosystem) => ecosystem !== LEFT_OUT) ?? []
      if (unknown.length > 0) await printer.say(`Nobody looked at its packages of ${unknown.join(', ')}: no whole set of their advisories has been imported.`)
      if (uncovered?.includes(LEFT_OUT) === true) await printer.say('It reports more packages than are taken of one device; the others were not looked at.')
    },
  }),
]
