// `endpoints`: the managed devices; looked at, asked to check, cut off.
import { z } from 'zod'
import { Fault } from '../protocol/faults.ts'
import { certificateSerial, uid } from '../protocol/ids.ts'
import { checkNow, deregisterEndpoint, listEndpoints, readEndpoint, revokeCertificate, setOwnership } from '../protocol/operations/admin.ts'
import { signOutEndpoint } from '../protocol/operations/sign-in.ts'
import { ownership } from '../protocol/ownership.ts'
import { lineOrEmpty } from '../protocol/text.ts'
import { command, type Session } from './command.ts'
import { describeEndpoint, stateOf, tagNames } from './endpoint-text.ts'
import { ago } from './instants.ts'
import { pagesOf } from './pages.ts'
import { from, readTags, UIDS, uidsOf } from './tags.ts'
import { yes } from './values.ts'

const UID = { says: 'of the endpoint: 32 hex digits', schema: uid }
const EXAMPLE = '0123456789abcdef0123456789abcdef'
/** Names of tags, for people; machines are told their UIDs. */
const namesFor = async (session: Session) => new Map(session.printer.json ? [] : (await readTags(session)).map((tag) => [tag.uid, tag.name]))

export const endpointCommands = [
  command({
    name: 'endpoints list', summary: 'Endpoints, by UID. A tag with ? is unknown.', words: {}, options: {}, examples: ['endpoints list', 'endpoints list --json'],
    async run(_, session) {
      const names = await namesFor(session)
      await session.printer.list(pagesOf((query) => session.call(listEndpoints, { query })), [
        { title: 'UID', cell: (endpoint) => endpoint.uid },
        { title: 'STATE', cell: (endpoint) => stateOf(endpoint) },
        { title: 'LAST REPORT', cell: ({ lastReportAt }) => ago(lastReportAt, session.now()) },
        { title: 'OS', cell: ({ os }) => os },
        { title: 'HOST', cell: ({ hostName }) => hostName },
        { title: 'USER', cell: ({ account }) => account },
        { title: 'GROUP', cell: ({ group }) => group },
        { title: 'TAGS', cell: ({ tags }) => tagNames(tags, names).join(', ') },
      ], 'No endpoint has enrolled: cli invitations create makes an invitation.')
    },
  }),
  command({
    name: 'endpoints show', summary: 'One endpoint with its tags, certificates and facts.', words: { UID }, options: {}, examples: [`endpoints show ${EXAMPLE}`, `endpoints show ${EXAMPLE} --json`],
    async run({ words }, session) {
      const endpoint = await session.call(readEndpoint, { params: { uid: words.UID } })
      const names = await namesFor(session)
      await session.printer.one(endpoint, () => describeEndpoint(endpoint, names, session.now()))
    },
  }),
  command({
    name: 'endpoints set-ownership', summary: 'Say whose devices endpoints are, for policies that ask: corporate, personal or unknown.', options: { from },
    note: 'Gateways have heard of it when the command returns. Said again it changes nothing.',
    words: { WHOSE: { says: 'corporate, personal, or unknown: nobody has said', schema: z.enum([...ownership.options, 'unknown'], { error: 'must be corporate, personal or unknown' }) }, UIDS },
    examples: [`endpoints set-ownership corporate ${EXAMPLE}`, 'endpoints set-ownership personal --from uids.txt'],
    async run({ words, options }, session) {
      const uids = await uidsOf(session, words.UIDS, options.from)
      for (const each of uids) {
        await session.call(setOwnership, { params: { uid: each }, body: { ownership: words.WHOSE === 'unknown' ? null : words.WHOSE } }).catch((cause: unknown) => {
          if (cause instanceof Fault) throw new Fault(cause.code, `${each}: ${cause.message}`, { cause })
          throw cause
        })
      }
      await session.printer.done({ ok: true, endpoints: uids.length }, uids.length === 1 ? `${uids[0] ?? ''} is of ${words.WHOSE} ownership.` : `${uids.length} endpoints are of ${words.WHOSE} ownership.`)
    },
  }),
  command({
    name: 'endpoints deregister', summary: 'End management: the seat is freed, certificates are revoked, the agent lets go.', words: { UID },
    options: { reason: { takes: 'TEXT', says: 'told to the agent', schema: lineOrEmpty(256).default('') }, yes },
    examples: [`endpoints deregister ${EXAMPLE}`, `endpoints deregister ${EXAMPLE} --reason "left the company" --yes`],
    async run({ words, options }, { call, printer, confirm }) {
      await confirm(options.yes, async () => {
        const { hostName, account } = await call(readEndpoint, { params: { uid: words.UID } })
        return `Deregister ${hostName} (${account || 'no user reported'})? Its certificates are revoked and its agent lets go of everything; it can only enrol anew.`
      })
      const reply = await call(deregisterEndpoint, { params: { uid: words.UID }, body: { reason: options.reason } })
      await printer.done(reply, `${words.UID} is deregistered.`)
    },
  }),
  command({
    name: 'endpoints check', summary: 'Ask the agent to check everything now. Fails when the agent is away.', words: { UID }, options: {}, examples: [`endpoints check ${EXAMPLE}`],
    async run({ words }, { call, printer }) {
      const reply = await call(checkNow, { params: { uid: words.UID }, body: {} })
      if (printer.json) await printer.one(reply, () => [])
      if (!reply.told) throw new Fault('conflict', 'The agent has no open channel, so nobody was asked. It reports by itself when it is back.')
      if (!printer.json) await printer.say('The agent was asked; what changed is reported within seconds.')
    },
  }),
  command({
    name: 'endpoints sign-out', summary: 'Sign out whoever is signed in on an endpoint by an identity provider.', words: { UID }, options: {}, examples: [`endpoints sign-out ${EXAMPLE}`],
    note: 'Its gateways have heard of it when the command returns. A sign-in that was begun is void too; the person may begin another.',
    async run({ words }, { call, printer }) {
      await printer.done(await call(signOutEndpoint, { params: { uid: words.UID }, body: {} }), `Nobody is signed in on ${words.UID}.`)
    },
  }),
  command({
    name: 'endpoints revoke', summary: 'Revoke one certificate of an endpoint, at once.', words: { UID, SERIAL: { says: 'of the certificate, as endpoints show lists it', schema: certificateSerial } }, options: {},
    examples: [`endpoints revoke ${EXAMPLE} 0123456789ABCDEF0123456789ABCDEF01234567`],
    async run({ words }, { call, printer }) {
      const reply = await call(revokeCertificate, { params: { uid: words.UID, serial: words.SERIAL }, body: {} })
      await printer.done(reply, `The certificate ${words.SERIAL} is revoked.`)
    },
  }),
]
