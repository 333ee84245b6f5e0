// `signals`: what other systems say of an endpoint, for rules that read scores, sandbox detections and firewall threats.
import { z } from 'zod'
import { UsageError } from '../node/config.ts'
import { severity, signalKind, signalSource } from '../protocol/facts.ts'
import { uid } from '../protocol/ids.ts'
import { clearSignal, putSandbox, putScore, putThreats } from '../protocol/operations/signals.ts'
import { line } from '../protocol/text.ts'
import { command, type Session } from './command.ts'
import { atAndAgo } from './instants.ts'
import { date, duration, flag, listOf } from './values.ts'

const EXAMPLE = '0123456789abcdef0123456789abcdef'
const words = { UID: { says: 'of the endpoint: 32 hex digits', schema: uid }, SOURCE: { says: 'who says it, like edr or gateway-1', schema: signalSource } }
const ends = {
  for: { takes: 'SPAN', says: 'like 30m, 8h or 7d; from then on it says nothing any more', schema: duration.optional() },
  until: { takes: 'DATE', says: 'the same as a date, or an instant with its offset', schema: date.optional() },
}
const detection = z.string().transform((text, context) => {
  const at = text.lastIndexOf(':')
  const [name, level] = [line(256).safeParse(text.slice(0, at)), severity.safeParse(text.slice(at + 1))]
  if (at > 0 && name.success && level.success) return { name: name.data, severity: level.data }
  context.addIssue({ code: 'custom', message: 'must be a name and a severity, like EICAR:high' })
  return z.NEVER
})
const found = {
  ...ends,
  found: { takes: 'NAME:SEVERITY,…', says: `what was detected; severities are ${severity.options.join(', ')}`, list: true, schema: listOf(detection).optional() },
  none: flag('nothing was detected'),
} as const

function endOf(given: { for: number | undefined; until: number | undefined }, now: number): number | null {
  if (given.for !== undefined && given.until !== undefined) throw new UsageError('--for and --until say the same thing; give one.')
  return given.until ?? (given.for === undefined ? null : now + given.for * 1000)
}
const until = (at: number | null, session: Session): string => (at === null ? '' : ` until ${atAndAgo(at, session.now())}`)
function detectionsOf(given: { found: readonly z.infer<typeof detection>[] | undefined; none: boolean }) {
  if (given.none === (given.found !== undefined)) throw new UsageError('Say what was detected by --found NAME:SEVERITY, or --none that nothing was.')
  return [...given.found ?? []]
}

export const signalCommands = [
  command({
    name: 'signals score', summary: 'Tell the score that another system gives an endpoint.', words: { ...words, SCORE: { says: 'a number', schema: z.string().regex(/^-?\d{1,7}(\.\d{1,6})?$/, 'must be a number').transform(Number) } }, options: ends,
    examples: [`signals score ${EXAMPLE} edr 71.5`, `signals score ${EXAMPLE} edr 20 --for 24h`],
    async run({ words: { UID, SOURCE, SCORE }, options }, session) {
      const taken = await session.call(putScore, { params: { uid: UID, source: SOURCE }, body: { score: SCORE, expiresAt: endOf(options, session.now()) } })
      await session.printer.done(taken, `${SOURCE} scores it ${SCORE}${until(taken.expiresAt, session)}.`)
    },
  }),
  command({
    name: 'signals sandbox', summary: 'Tell all that a sandbox detected on an endpoint, or that it is nothing.', words, options: found,
    examples: [`signals sandbox ${EXAMPLE} sandbox --found EICAR:high --for 7d`, `signals sandbox ${EXAMPLE} sandbox --none`],
    async run({ words: { UID, SOURCE }, options }, session) {
      const detections = detectionsOf(options)
      const taken = await session.call(putSandbox, { params: { uid: UID, source: SOURCE }, body: { detections, expiresAt: endOf(options, session.now()) } })
      await session.printer.done(taken, `${SOURCE} says ${detections.length === 0 ? 'that there is nothing' : `${detections.length} detected`}${until(taken.expiresAt, session)}.`)
    },
  }),
  command({
    name: 'signals threats', summary: 'Tell all that a firewall detected from an endpoint, or that it is nothing.', words, options: found,
    examples: [`signals threats ${EXAMPLE} gateway-1 --found "beacon to example.org:critical" --for 8h`, `signals threats ${EXAMPLE} gateway-1 --none`],
    async run({ words: { UID, SOURCE }, options }, session) {
      const detections = detectionsOf(options)
      const taken = await session.call(putThreats, { params: { uid: UID, source: SOURCE }, body: { detections, expiresAt: endOf(options, session.now()) } })
      await session.printer.done(taken, `${SOURCE} says ${detections.length === 0 ? 'that there is nothing' : `${detections.length} detected`}${until(taken.expiresAt, session)}.`)
    },
  }),
  command({
    name: 'signals clear', summary: 'Forget what a source said of an endpoint: it is unknown then.', words: { UID: words.UID, KIND: { says: signalKind.options.join(', '), schema: signalKind }, SOURCE: words.SOURCE }, options: {},
    examples: [`signals clear ${EXAMPLE} scores edr`],
    async run({ words: { UID, KIND, SOURCE } }, session) {
      await session.printer.done(await session.call(clearSignal, { params: { uid: UID, kind: KIND, source: SOURCE } }), `What ${SOURCE} said is forgotten; rules that ask for it find it unknown.`)
    },
  }),
]
