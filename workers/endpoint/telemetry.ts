// A report: what changed on the device becomes facts, tags and a row of the log in one guarded batch, and gateways hear of it.
import canonicalize from 'canonicalize'
import { eq } from 'drizzle-orm'
import { sha256Hex } from '../../identity/keys.ts'
import { utf8 } from '../../identity/encoding.ts'
import { reportedName, sysinfoSections, type Fact, type Facts, type ReportedName, type SectionName, type Sections } from '../../protocol/facts.ts'
import { Fault } from '../../protocol/faults.ts'
import type { TableName } from '../../protocol/fabric/tables.ts'
import { report } from '../../protocol/operations/endpoint.ts'
import type { Parsed } from '../../protocol/operation.ts'
import { endpoints, type EndpointRow } from '../../schema/endpoint.ts'
import { dropSections, dropTags, insertSection, putTags, renewSections } from '../../schema/queries/guarded.ts'
import { gatewaysConcerned, type Concerned } from '../../schema/queries/interest.ts'
import { logTail } from '../../schema/queries/log-tail.ts'
import { logEvent, type Context } from '../context.ts'
import { recordsOf } from '../flows/certificates.ts'
import { commitEndpoint } from '../flows/commit-endpoint.ts'
import { versionsFor } from '../flows/documents.ts'
import { packSection, readReported, selectSections, withMatches, type StoredSection } from '../flows/facts.ts'
import { inventoryAfter, readMatches, SOFTWARE } from '../flows/inventory.ts'
import { pokeGateways } from '../flows/poke.ts'
import { renewalsOf } from '../flows/renewals.ts'
import { rulesOf } from '../flows/rules.ts'
import { evaluatedThrough, rulesRevisionOf, selectStates } from '../flows/states.ts'
import { sysinfoRecord } from '../flows/sysinfo-record.ts'
import { workOut } from '../flows/work-out.ts'
import { handle } from '../http/mount.ts'

type Body = Parsed<typeof report>['body']
type StateRows = Awaited<ReturnType<typeof selectStates>>
interface Loaded { readonly states: StateRows; readonly concerned: readonly Concerned[]; readonly sections: readonly StoredSection[] }
interface Sent { readonly section: ReportedName; readonly hash: string; readonly canonical: string; readonly value: Sections[ReportedName] }
const ATTEMPTS = 5
/** A section as stored, deflated: what one endpoint may keep is bounded, whatever it sends. */
const MAX_STORED_BYTES = 512 * 1024

const loads = (context: Pick<Context, 'db'>, uid: string) => [selectStates(context), gatewaysConcerned(context.db, uid), selectSections(context.db, uid)] as const
const loadedOf = (results: readonly unknown[]): Loaded => ({ states: results[0] as StateRows, concerned: results[1] as Concerned[], sections: results[2] as StoredSection[] })

export const telemetryRoute = handle(report, {
  load: (context, uid) => [...loads(context, uid)],
  async run(context, { body }, results) {
    let loaded = loadedOf(results)
    let { endpoint } = context.caller
    const sent = await canonicalSections(body)
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const outcome = await take(context, endpoint, loaded, body, sent)
      if (outcome !== null) return outcome
      // Somebody else was first: what was computed is void, so load and compute anew.
      const [rows, ...again] = await context.db.batch([context.db.select().from(endpoints).where(eq(endpoints.uid, endpoint.uid)), ...loads(context, endpoint.uid)])
      const [row] = rows
      if (row === undefined || !row.registered) throw new Fault('deregistered', 'The endpoint has been deregistered by an administrator.', row?.deregistration == null ? {} : { document: row.deregistration })
      endpoint = row
      loaded = loadedOf(again)
    }
    throw new Fault('busy', 'The endpoint is being changed by others; send the report again.', { retryAfterSeconds: 1 })
  },
})

/** Canonical form and hash of each section sent; a hash that the agent gave and that is not this one is refused. */
async function canonicalSections(body: Body): Promise<Sent[]> {
  const given = Object.entries(body.sections) as [ReportedName, Sections[ReportedName]][]
  return await Promise.all(given.map(async ([section, value]) => {
    const canonical = canonicalize(value) ?? ''
    const hash = await sha256Hex(utf8(canonical))
    if (body.hashes[section] !== hash) throw new Fault('invalid', 'A section does not have the hash that was given for it.', { errors: [{ pointer: `/hashes/${section}`, detail: 'must be the SHA-256 of the section as canonical JSON (RFC 8785)' }] })
    return { section, hash, canonical, value }
  }))
}

/** null: another writer was first. */
async function take(context: Context, endpoint: EndpointRow, loaded: Loaded, body: Body, sent: readonly Sent[]) {
  const holds = new Map<string, string>(loaded.sections.map(({ section, hash }) => [section, hash]))
  for (const { section, hash } of sent) holds.set(section, hash)
  const reply = (sequence: number) => ({
    sequence, emsTime: context.now(), documents: versionsFor(loaded.states, endpoint),
    browserCertificates: recordsOf(endpoint).flatMap(({ purpose, serial }) => (purpose === 'browser' ? [serial] : [])),
    wanted: reportedName.options.filter((section) => body.hashes[section] !== undefined && holds.get(section) !== body.hashes[section]),
  })
  const stored = new Map(loaded.sections.map(({ section, hash }) => [section, hash]))
  const changed = sent.filter(({ section, hash }) => stored.get(section) !== hash)
  // Software stays: its list only grows old, and what was matched for it is the better for being there.
  const forgotten = [...new Set(body.unknown)].filter((section) => section !== SOFTWARE && stored.has(section) && !sent.some((each) => each.section === section))
  const brings = changed.length + forgotten.length > 0
  const sentNames = new Set<string>([...changed.map(({ section }) => section), ...forgotten])
  const confirmed = loaded.sections.filter(({ section, hash }) => !sentNames.has(section) && body.confirmed?.[section as ReportedName] !== undefined && body.hashes[section as ReportedName] === hash)
  const revision = rulesRevisionOf(loaded.states)
  const first = endpoint.lastReportAt === null
  const through = first ? null : Math.max(endpoint.rulesRevision, evaluatedThrough(loaded.states))
  const nothingNew = async () => {
    // The reply to a report that was taken may have been lost, and with it a poke: say it again, write nothing.
    if (sent.length + (body.unknown?.length ?? 0) > 0 && body.sequence === endpoint.sequence) await pokeAgain(context, loaded.concerned)
    return reply(endpoint.sequence)
  }
  if (!brings && confirmed.length === 0 && (through === null || through >= revision)) return await nothingNew()
  if (brings && body.sequence <= endpoint.sequence) throw new Fault('stale_sequence', 'A later report has already been taken; go on from its sequence.', { sequence: endpoint.sequence })
  const now = context.now()
  const held = await rulesOf(context, loaded.states)
  const renewals = renewalsOf(held.rules, endpoint, confirmed, body.confirmed ?? {}, now)
  if (!brings && renewals.at.size === 0 && (through === null || through >= revision)) return await nothingNew()
  const sections = loaded.sections.map((row) => ({ ...row, at: renewals.at.get(row.section) ?? row.at }))
  const before = readReported(sections)
  const reported = withChanges(before.facts, changed, forgotten, now)
  const software = changed.find(isSoftware)
  // Kept as ids, but bounded like any other section: its packages are stored for the fleet.
  if (software !== undefined) packed(SOFTWARE, software.canonical)
  const inventory = await inventoryAfter(context, endpoint.uid, { stored: sections, software: software ?? null, osBefore: before.facts.os?.value ?? null, os: reported.os?.value ?? null })
  const read = withMatches({ facts: reported, damaged: before.damaged }, inventory?.matches ?? readMatches(sections))
  const damaged = read.damaged.filter((section) => !changed.some((each) => each.section === section))
  const { facts } = read
  const moved = [...changed.map(({ section }) => section), ...forgotten, ...inventory?.differs === true ? ['vulnerabilities' as const] : []]
  const worked = workOut({ endpoint, held, through, facts, changed: [...moved, ...damaged], renewed: renewals.ruleSets, now })
  const { evaluation, put, gone, differs } = worked
  // Rules were edited, and nothing of it shows here: the endpoint needs no row for that.
  if (!brings && damaged.length === 0 && renewals.at.size === 0 && !differs) return await nothingNew()
  for (const section of damaged) {
    logEvent('section-damaged', { uid: endpoint.uid, section })
    holds.delete(section)
  }
  // Only a report that brings something takes its sequence: a hash-only one must not let an older report in again.
  const taken = brings ? { sequence: body.sequence, lastReportAt: now } : {}
  // What is only renewed leaves the rest as it is: a column that is set, even to what it was, writes the index over it.
  const set: Partial<EndpointRow> = { ...columnsOf(facts, [...changed.map(({ section }) => section), ...forgotten]), ...taken, ...(brings || differs ? worked.set : {}) }
  // With the first report its tags become known, even if it has none.
  const tables = tablesOf(moved, put.length + gone.length > 0 || first)
  const committed = await commitEndpoint(context, {
    endpoint, rulesRevision: revision, set, tables, concerned: loaded.concerned,
    sysinfo: tables.includes('sysinfo') ? sysinfoRecord({ ...endpoint, ...set }, facts) : null,
    also: (guard) => [
      ...inventory?.statements(guard) ?? [],
      ...changed.filter((each) => !isSoftware(each)).map(({ section, hash, canonical }) => insertSection(context.db, guard, { section, hash, at: now, body: packed(section, canonical) })),
      ...(renewals.at.size === 0 ? [] : [renewSections(context.db, guard, [...renewals.at])]),
      ...(damaged.length + forgotten.length === 0 ? [] : [dropSections(context.db, guard, [...damaged, ...forgotten])]),
      ...(put.length === 0 ? [] : [putTags(context.db, guard, put, now)]), ...(gone.length === 0 ? [] : [dropTags(context.db, guard, gone)]),
    ],
  })
  if (committed.ok && evaluation.nextDue !== null && (endpoint.nextDue === null || evaluation.nextDue < endpoint.nextDue)) context.waitUntil(context.env.RE_EVALUATION.getByName('one').due(evaluation.nextDue))
  // Advisories that were matched while this report was on its way have marked it.
  if (committed.ok && inventory !== null) context.waitUntil(context.env.RE_EVALUATION.getByName('one').start())
  return committed.ok ? reply(committed.endpoint.sequence) : null
}

function packed(section: SectionName, canonical: string): Uint8Array {
  const body = packSection(canonical)
  if (body.length > MAX_STORED_BYTES) throw new Fault('too_large', `The section ${section} is larger than this EMS keeps.`)
  return body
}

/** Software is no fact that rules read: it is stored as ids, and what was matched for it joins the vulnerabilities. */
const isSoftware = (sent: Sent): sent is Sent & { readonly value: Sections['software'] } => sent.section === SOFTWARE

function withChanges(facts: Facts, changed: readonly Sent[], forgotten: readonly SectionName[], now: number): Facts {
  const next: { [S in SectionName]?: Fact } = { ...facts }
  for (const { section, value } of changed.filter((each) => !isSoftware(each))) next[section] = { value, at: now, provenance: 'claimed' }
  for (const section of forgotten) delete next[section]
  return next as Facts
}

/** Columns that repeat a fact because lists and the log entry show it. */
function columnsOf(facts: Facts, changed: readonly SectionName[]): Partial<EndpointRow> {
  const has = (section: SectionName) => changed.includes(section)
  const interfaces = facts.network?.value.interfaces ?? []
  return {
    ...(has('os') && facts.os !== undefined ? { os: facts.os.value.type } : {}), ...(has('user') && facts.user !== undefined ? { account: facts.user.value.account } : {}),
    ...(has('hardware') && facts.hardware !== undefined ? { hostName: facts.hardware.value.hostName } : {}), ...(has('agent') && facts.agent !== undefined ? { agentVersion: facts.agent.value.version, protocol: facts.agent.value.protocol } : {}),
    ...(has('network') ? { addresses: JSON.stringify({ ips: interfaces.flatMap(({ addresses }) => addresses.map(({ ip }) => ip)), macs: interfaces.flatMap(({ mac }) => mac ?? []) }) } : {}),
  }
}

function tablesOf(changed: readonly SectionName[], tagsChanged: boolean): TableName[] {
  const names = new Set<string>(changed)
  return [
    ...(tagsChanged ? ['uid_tags' as const, 'tags' as const] : []), ...(sysinfoSections.some((section) => names.has(section)) || names.has('vulnerabilities') ? ['sysinfo' as const] : []),
    ...(names.has('vulnerabilities') ? ['vuln' as const] : []), ...(names.has('user') ? ['avatar' as const] : []),
  ]
}

/** Objects that have the tail already do nothing with it; one that missed its poke finds the gap. */
const pokeAgain = async (context: Context, concerned: readonly Concerned[]): Promise<void> => { await pokeGateways(context, concerned, await logTail(context.db)) }
