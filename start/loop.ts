// The loop, run on this machine's real posture: allowed while healthy, cut when a watched file goes, explained, and allowed again when it is back.
import { rm, writeFile } from 'node:fs/promises'
import { askAgent, explanation } from '../agent/local-status.ts'
import type { Denial } from '../agent/tunnel/denial.ts'
import { explainDecision, readEndpoint } from '../protocol/operations/admin.ts'
import type { TagExplanation } from '../protocol/rules.ts'
import { INTRANET, LEDGER, TAG } from './configuration.ts'
import { LEDGER_GREETING } from './services.ts'
import type { Stage } from './stage.ts'
import { until, type Steps } from './steps.ts'
import { openSession, visit, type Opened } from './visit.ts'

export interface LoopFigures {
  /** ms from the change on the machine to the report being sent. */
  readonly detect_ms: number
  /** ms from there to the close that the client saw. */
  readonly cut_ms: number
  /** ms from the mend on the machine to a new session. */
  readonly restore_ms: number
  readonly cut_decision: string
}

const url = `http://${INTRANET.host}/`

/** What did not hold, and how to mend it, in one line. */
const failed = (tags: readonly TagExplanation[]): string => tags.flatMap(({ ruleSets }) => ruleSets).flatMap(({ name, conditions }) => conditions
  .filter(({ value, negate }) => value !== (negate ? 'false' : 'true'))
  .map(({ wanted, seen, mend }) => `rule "${name}" wanted ${wanted}; seen: ${seen}. ${mend}`)).join(' ')

/** Runs it once. Throws at the first step that fails. */
export async function runLoop({ client, agent, ports, files, onAgentEvent }: Stage, { step, say }: Steps): Promise<LoopFigures> {
  const ledger = () => openSession(ports.socksProxy, LEDGER.host, LEDGER.port)
  const opened = async (): Promise<Extract<Opened, { ok: true }> | null> => {
    const session = await ledger()
    return session.ok ? session : null
  }
  await step('posture', 'its real posture has been reported', () => until('the first report', async () => {
    const { facts } = await client.call(readEndpoint, { params: { uid: agent.uid } })
    return facts.os !== undefined && facts.verdicts !== undefined ? Object.keys(facts) : null
  }), (sections) => sections.join(', '))
  await step('tag', `the EMS has turned it into the tag "${TAG}"`, () => until(`the tag "${TAG}"`, async () => {
    const { tags } = await client.call(readEndpoint, { params: { uid: agent.uid } })
    return tags.some(({ state }) => state === 'present') ? true : null
  }))
  await step('allowed-http', `allowed: ${url} by the agent's HTTP proxy`, () => until('access to the intranet', async () => {
    const { status, text } = await visit(ports.httpProxy, url)
    return status === 200 ? text.trim() : null
  }), (text) => text)
  const session = await step('allowed-tcp', `allowed: a TCP session with ${LEDGER.host}:${LEDGER.port} by its SOCKS5 proxy, kept open`, () => until('a session with the ledger', opened), ({ greeting }) => greeting.trim())
  if (session.greeting !== LEDGER_GREETING) throw new Error('somebody else answered for the ledger')

  const sent = Promise.withResolvers<number>()
  const cut = Promise.withResolvers<Denial>()
  const leave = onAgentEvent((event) => {
    if (event.event === 'report-sent' && event.sections.includes('verdicts')) sent.resolve(event.sentAt)
    // What is refused now has no session of before: only the open one can be told of its end.
    if (event.event === 'denied' && event.denial.destination === `${LEDGER.host}:${LEDGER.port}`) cut.resolve(event.denial)
  })
  const changedAt = Date.now()
  const sentAt = await step('changed', `changed on the machine: ${files.watched} is gone, and the agent has noticed and reported it`, async () => {
    await rm(files.watched)
    return await within(sent.promise, 'the agent\'s report')
  }, (at) => `${at - changedAt} ms after the change`)
  const closedAt = await step('cut', 'the open session has been cut', () => within(session.closed, 'the cut'), (at) => `${at - sentAt} ms after the report was sent`)
  const denial = await within(cut.promise, 'the reason of the cut')
  leave()
  if (denial.decision === null) throw new Error('the gateway named no decision for the cut')

  await step('refused', 'a new session is refused, over both protocols', async () => {
    const again = await ledger()
    if (again.ok) {
      again.socket.destroy()
      throw new Error('a new session was let through')
    }
    const { status, text } = await visit(ports.httpProxy, url)
    if (status !== 403) throw new Error(`the intranet answered ${status}`)
    return text.split('\n')[0] ?? ''
  }, (text) => text)
  await step('explained', 'why, as the user reads it', async () => {
    const { tags } = explanation.parse(await askAgent(files.agent, { ask: 'explain', subject: denial.decision ?? '' }))
    const sentence = failed(tags)
    if (sentence === '') throw new Error('nobody can say why')
    return sentence
  }, (sentence) => sentence)
  await step('decision', 'and as an administrator resolves it by its id', async () => {
    const { decision } = await client.call(explainDecision, { params: { id: denial.decision ?? '' } })
    return `${decision.id}: ${decision.code} ${decision.reason}, ${decision.event}`
  }, (sentence) => sentence)

  const mendedAt = Date.now()
  const restored = await step('restored', 'mended on the machine: allowed again', async () => {
    await writeFile(files.watched, 'Take this file away, and this machine is healthy no longer.\n')
    const back = await until('access again', opened)
    back.socket.destroy()
    return Date.now() - mendedAt
  }, (ms) => `${ms} ms after the mend`)
  const figures = { detect_ms: Math.round(sentAt - changedAt), cut_ms: Math.round(closedAt - sentAt), restore_ms: restored, cut_decision: denial.decision }
  say(`  Noticed after ${figures.detect_ms} ms, cut ${figures.cut_ms} ms later, restored ${figures.restore_ms} ms after the mend.`)
  return figures
}

const LONGEST_MS = 10_000
async function within<T>(event: Promise<T>, what: string): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new Error(`${what} did not come within ${LONGEST_MS} ms`)), LONGEST_MS)
  return await Promise.race([event, promise]).finally(() => clearTimeout(timer))
}
