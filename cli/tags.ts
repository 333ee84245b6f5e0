// `tags`: every tag there is. Rules make their own; classification and fabric tags are made, set and cleared here.
import { z } from 'zod'
import { UsageError } from '../node/config.ts'
import { Fault } from '../protocol/faults.ts'
import { uid, uuid } from '../protocol/ids.ts'
import { listTags } from '../protocol/operations/admin.ts'
import { assignTag, clearTag, createTag, deleteTag, setImportance, tagEndpoints } from '../protocol/operations/tags.ts'
import type { Reply } from '../protocol/operation.ts'
import { importance, MOST_UIDS, tagName, tagTypes, type Tag } from '../protocol/rules.ts'
import { line, lineOrEmpty } from '../protocol/text.ts'
import { command, type Session } from './command.ts'
import { ago, at, atAndAgo } from './instants.ts'
import { allOf, pagesOf } from './pages.ts'
import { date, duration, listOf, yes } from './values.ts'

const pages = ({ call }: Session) => pagesOf((query) => call(listTags, { query }))
export const readTags = (session: Session): Promise<Tag[]> => allOf(pages(session))

/** A tag by its UID or its name. Names differ in more than case; a different case is taken where it fits one tag only. */
export async function findTag(session: Session, word: string): Promise<Tag> {
  const tags = await readTags(session)
  const alike = tags.filter((tag) => tag.name.toLowerCase() === word.toLowerCase())
  const found = tags.find((tag) => tag.uid === word || tag.name === word) ?? (alike.length === 1 ? alike[0] : undefined)
  if (found === undefined) throw new Fault('not_found', `There is no tag "${word}".`)
  return found
}

const EXAMPLE = '0123456789abcdef0123456789abcdef'
const TAG = { says: 'the name or UID of a tag', schema: z.union([uuid, line(63)]) }
export const UIDS = { says: 'UIDs of endpoints, with commas; or --from', schema: listOf(uid).optional() }
/** Instead of words: a file of them. */
export const from = { takes: 'FILE', says: 'UIDs of endpoints, one a line; - reads standard input', schema: z.string().min(1).optional() }
const options = {
  from,
  source: { takes: 'NAME', says: 'who sets it; what one source set of a fabric tag, no other clears', schema: line(64).default('administrator') },
}
const reason = { takes: 'TEXT', says: 'why; shown to administrators, not to the user of the device', schema: lineOrEmpty(256).default('') }

export async function uidsOf(session: Session, typed: readonly string[] | undefined, from: string | undefined): Promise<string[]> {
  if ((typed === undefined) === (from === undefined)) throw new UsageError('Say which endpoints: either UIDs, or --from FILE.')
  if (from === undefined) return [...typed ?? []]
  const lines = (await session.read(from)).split('\n').map((text, index) => ({ text: text.trim(), at: index + 1 })).filter(({ text }) => text !== '' && !text.startsWith('#'))
  const wrong = lines.find(({ text }) => !uid.safeParse(text).success)
  if (wrong !== undefined) throw new UsageError(`${from === '-' ? 'standard input' : from}:${wrong.at}: "${wrong.text.slice(0, 80)}" is no UID: those have 32 hex digits.`)
  if (lines.length === 0) throw new UsageError(`${from} names no endpoint.`)
  return lines.map(({ text }) => text)
}

type Outcome = Reply<typeof assignTag>
/** As many calls as it takes; each stands whatever becomes of the next, and all may be said again. */
async function inParts(session: Session, uids: readonly string[], call: (part: string[]) => Promise<Outcome>, said: string, unchangedSaid = 'were so already'): Promise<void> {
  const sum = { changed: 0, unchanged: 0, unknown: [] as string[], full: [] as string[] }
  for (let from = 0; from < uids.length; from += MOST_UIDS) {
    const { changed, unchanged, unknown, full } = await call(uids.slice(from, from + MOST_UIDS))
    sum.changed += changed
    sum.unchanged += unchanged
    sum.unknown.push(...unknown)
    sum.full.push(...full)
  }
  await session.printer.done(sum, `${said}: ${sum.changed} changed${sum.unchanged === 0 ? '' : `, ${sum.unchanged} ${unchangedSaid}`}.`)
  if (sum.full.length > 0) throw new Fault('too_many', `These bear as many settings as an endpoint may: ${sum.full.join(', ')}.`)
  if (sum.unknown.length > 0) throw new Fault('not_found', `No registered endpoint has the UID ${sum.unknown.join(', ')}.`)
}

export const tagCommands = [
  command({
    name: 'tags list', summary: 'Tags, by UID: those that rules give, and those that are set.', words: {}, options: {}, examples: ['tags list', 'tags list --json'],
    run: (_, session) => session.printer.list(pages(session), [
      { title: 'UID', cell: ({ uid: id }) => id },
      { title: 'TYPE', cell: ({ type }) => tagTypes[type] },
      { title: 'NAME', cell: ({ name }) => name },
      { title: 'DESCRIPTION', cell: ({ description }) => description },
    ], 'There is no tag yet: a rule set makes its own, and tags create makes one that is set.'),
  }),
  command({
    name: 'tags endpoints', summary: 'Endpoints that bear a tag, or of which it is unknown; of one that is set, by whom.', words: { TAG }, options: {}, examples: ['tags endpoints infected', 'tags endpoints infected --json'],
    async run({ words }, session) {
      const { uid: id, name } = await findTag(session, words.TAG)
      const until = (end: number | null) => (end === null ? '' : at(end))
      await session.printer.list(pagesOf((query) => session.call(tagEndpoints, { params: { id }, query })), [
        { title: 'UID', cell: (endpoint) => endpoint.uid },
        { title: 'STATE', cell: ({ state }) => state },
        { title: 'SINCE', cell: ({ since }) => ago(since, session.now()) },
        { title: 'UNTIL', cell: ({ validUntil }) => until(validUntil) },
        { title: 'HOST', cell: ({ hostName }) => hostName },
        { title: 'SET BY', cell: ({ assigned }) => assigned.map(({ source, reason: why }) => (why === '' ? source : `${source} (${why})`)).join(', ') },
      ], `No endpoint bears "${name}".`)
    },
  }),
  command({
    name: 'tags create', summary: 'Make a tag that is set and cleared, not given by rules.', words: { NAME: { says: 'of the tag, as policies will name it', schema: tagName } },
    note: 'Classification is what people say of a device; a fabric tag is what automation found, by source and mostly until an instant.',
    options: {
      type: { takes: 'TYPE', says: 'classification or fabric', schema: z.enum(['classification', 'fabric'], { error: 'must be classification or fabric' }) },
      description: { takes: 'TEXT', says: 'what it means', schema: lineOrEmpty(512).default('') },
    },
    examples: ['tags create finance --type classification', 'tags create infected --type fabric --description "found by the analyzer"'],
    async run({ words, options: { type, description } }, { call, printer }) {
      const made = await call(createTag, { body: { name: words.NAME, type: type === 'fabric' ? 4 : 3, description } })
      await printer.done(made, `The ${type} tag "${made.name}" is there: ${made.uid}. Gateways see it that are entitled to its type.`)
    },
  }),
  command({
    name: 'tags delete', summary: 'Remove a classification or fabric tag that no endpoint bears.', words: { TAG }, options: { yes }, examples: ['tags delete finance', 'tags delete finance --yes'],
    async run({ words, options: given }, session) {
      const tag = await findTag(session, words.TAG)
      await session.confirm(given.yes, `Delete the tag "${tag.name}"? A policy that names it can not be decided then, and refuses.`)
      await session.printer.done(await session.call(deleteTag, { params: { id: tag.uid } }), `The tag "${tag.name}" is deleted.`)
    },
  }),
  command({
    name: 'tags set', summary: 'Set a classification or fabric tag on endpoints, or extend it.', words: { TAG, UIDS },
    note: 'Gateways have heard of it when the command returns. Said again it changes nothing.',
    options: {
      ...options, reason,
      for: { takes: 'SPAN', says: 'like 30m, 8h or 7d; it ends by itself then', schema: duration.optional() },
      until: { takes: 'DATE', says: 'a date, or an instant with its offset; it ends by itself then', schema: date.optional() },
    },
    examples: [`tags set finance ${EXAMPLE}`, `tags set infected ${EXAMPLE} --source analyzer --reason "beacon seen" --for 8h`, 'tags set finance --from uids.txt --json'],
    async run({ words, options: given }, session) {
      if (given.for !== undefined && given.until !== undefined) throw new UsageError('--for and --until say the same thing; give one.')
      const uids = await uidsOf(session, words.UIDS, given.from)
      const { uid: id, name } = await findTag(session, words.TAG)
      const until = given.until ?? (given.for === undefined ? null : session.now() + given.for * 1000)
      const body = { source: given.source, reason: given.reason, until }
      await inParts(session, uids, (part) => session.call(assignTag, { params: { id }, body: { uids: part, ...body } }), `"${name}" is set${until === null ? '' : ` until ${atAndAgo(until, session.now())}`}`)
    },
  }),
  command({
    name: 'tags clear', summary: 'Take a classification or fabric tag off endpoints.', words: { TAG, UIDS }, options,
    examples: [`tags clear finance ${EXAMPLE}`, `tags clear infected ${EXAMPLE} --source analyzer`, 'tags clear finance --from uids.txt'],
    async run({ words, options: given }, session) {
      const uids = await uidsOf(session, words.UIDS, given.from)
      const { uid: id, name } = await findTag(session, words.TAG)
      await inParts(session, uids, (part) => session.call(clearTag, { params: { id }, body: { uids: part, source: given.source } }), `"${name}" is cleared`, `had it not from ${given.source} (tags endpoints says from whom)`)
    },
  }),
  command({
    name: 'tags importance', summary: 'How much endpoints matter: each bears one importance at most.',
    words: { LEVEL: { says: 'low, medium, high or critical; none takes it off', schema: z.enum([...importance.options, 'none'], { error: 'must be low, medium, high, critical or none' }) }, UIDS },
    options: { ...options, reason }, examples: [`tags importance critical ${EXAMPLE}`, `tags importance none ${EXAMPLE}`, 'tags importance high --from servers.txt'],
    async run({ words, options: given }, session) {
      const level = words.LEVEL === 'none' ? null : words.LEVEL
      const uids = await uidsOf(session, words.UIDS, given.from)
      const body = { importance: level, source: given.source, reason: given.reason }
      await inParts(session, uids, (part) => session.call(setImportance, { body: { uids: part, ...body } }), level === null ? 'No importance' : `"importance:${level}" is set`)
    },
  }),
]
