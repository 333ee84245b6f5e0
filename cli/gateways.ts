// `gateways`: who may join the fabric, and what each is entitled to.
import { z } from 'zod'
import { UsageError } from '../node/config.ts'
import { gatewaySerial } from '../protocol/ids.ts'
import { authoriseGateway, createJoinCode, deauthoriseGateway, listGateways, setGatewayFabric } from '../protocol/operations/admin.ts'
import { updateGateway } from '../protocol/operations/fabric.ts'
import type { Reply } from '../protocol/operation.ts'
import { tagTypes } from '../protocol/rules.ts'
import { line, lineOrEmpty } from '../protocol/text.ts'
import { command } from './command.ts'
import { ago, atAndAgo } from './instants.ts'
import { pagesOf } from './pages.ts'
import type { Column } from './printer.ts'
import { duration, listOf, yes, yesOrNo } from './values.ts'

type Gateway = Reply<typeof listGateways>['items'][number]
const shareModes = { own: 0, all: 1, selected: 2 } as const
const shareModeNames = Object.keys(shareModes) as (keyof typeof shareModes)[]
const types = Object.entries(tagTypes).map(([number, name]) => ({ number: Number(number) as keyof typeof tagTypes, name }))
const tagTypeWord = z.string().transform((word, context) => {
  const found = types.find(({ number, name }) => String(number) === word || name === word)
  if (found !== undefined) return found.number
  context.addIssue(`must be among ${types.map(({ number, name }) => `${number} (${name})`).join(', ')}`)
  return z.NEVER
})

const columns = (now: number): Column<Gateway>[] => [
  { title: 'SERIAL', cell: ({ serial }) => serial },
  { title: 'STATE', cell: ({ state, connected }) => (state === 'authorised' && !connected ? 'authorised, away' : state) },
  { title: 'JOINED', cell: ({ joinedAt }) => ago(joinedAt, now) },
  { title: 'ADDRESS', cell: ({ address }) => address },
  { title: 'SHARES', cell: ({ shareMode }) => shareModeNames[shareMode] ?? '' },
  { title: 'FABRIC', cell: ({ fabric }) => (fabric === null ? '' : [...(fabric.neighbours ? ['neighbours'] : []), ...fabric.networks].join(',') || 'nothing') },
  { title: 'TAG TYPES', cell: ({ shareTagTypes }) => shareTagTypes.join(',') },
  { title: 'NAME', cell: ({ name }) => name },
  { title: 'REASON', cell: ({ state, reason }) => (state === 'authorised' ? '' : reason) },
  { title: 'FINGERPRINT', cell: ({ fingerprint }) => fingerprint },
]
const SERIAL = { says: 'of the gateway, like SPGW0123456789AB', schema: gatewaySerial }

export const gatewayCommands = [
  command({
    name: 'gateways list', summary: 'Gateways, by serial: pending ones wait for gateways authorise.', words: {}, options: {}, examples: ['gateways list', 'gateways list --json'],
    run: (_, { call, printer, now }) => printer.list(pagesOf((query) => call(listGateways, { query })), columns(now()), 'No gateway has asked to join.'),
  }),
  command({
    name: 'gateways authorise', summary: 'Let a gateway in whose fingerprint was compared.', words: { SERIAL },
    note: 'The fingerprint is the one that the gateway itself shows. Copied from the list here it would prove nothing.',
    options: { fingerprint: { takes: 'F', says: 'as the gateway shows it', schema: z.string().min(1).max(128) } },
    examples: ['gateways authorise SPGW0123456789AB --fingerprint 3F:5A:00'],
    async run({ words, options }, { call, printer }) {
      const gateway = await call(authoriseGateway, { params: { serial: words.SERIAL }, body: { fingerprint: options.fingerprint } })
      await printer.done(gateway, `${gateway.serial} (${gateway.name}) is authorised.`)
    },
  }),
  command({
    name: 'gateways deauthorise', summary: 'Cut a gateway off at once; its certificate is void.', words: { SERIAL },
    options: { reason: { takes: 'TEXT', says: 'told to the gateway', schema: lineOrEmpty(256).default('') }, yes },
    examples: ['gateways deauthorise SPGW0123456789AB', 'gateways deauthorise SPGW0123456789AB --reason stolen --yes'],
    async run({ words, options }, { call, printer, confirm }) {
      await confirm(options.yes, `Cut ${words.SERIAL} off at once? Its certificate is void from then on, and it lets nobody through any more.`)
      const gateway = await call(deauthoriseGateway, { params: { serial: words.SERIAL }, body: { reason: options.reason } })
      await printer.done(gateway, `${gateway.serial} (${gateway.name}) is cut off.`)
    },
  }),
  command({
    name: 'gateways entitle', summary: 'What a gateway may see; what is not said stays as it is.', words: { SERIAL },
    options: {
      'share-mode': { takes: 'MODE', says: 'own (endpoints behind it), all, or selected (those behind the gateways of --selected)', schema: z.enum(shareModeNames, { error: 'must be own, all or selected' }).optional() },
      'selected': { takes: 'SERIAL,…', says: 'with share mode selected: whose endpoints', list: true, schema: listOf(gatewaySerial).optional() },
      'tag-types': { takes: 'N,…', says: types.map(({ number, name }) => `${number} ${name}`).join(', '), list: true, schema: listOf(tagTypeWord).optional() },
      'root': { takes: 'yes|no', says: 'whether it may vouch for others', schema: yesOrNo.optional() },
      'alias': { takes: 'NAME', says: 'how it is called here', schema: line(128).optional() },
    },
    examples: ['gateways entitle SPGW0123456789AB --share-mode all --tag-types 1,2', 'gateways entitle SPGW0123456789AB --share-mode selected --selected SPGW0123456789AC --root no'],
    async run({ words, options }, { call, printer }) {
      const { 'share-mode': mode, 'tag-types': tagTypes, selected, root, alias } = options
      if (mode === 'selected' && selected === undefined) throw new UsageError('--share-mode selected needs --selected SERIAL,…')
      if (selected !== undefined && mode !== undefined && mode !== 'selected') throw new UsageError('--selected stands with --share-mode selected only.')
      const body = { share_mode: mode === undefined ? undefined : shareModes[mode], selected_cn_list: selected, share_tag_types: tagTypes, is_root: root, alias }
      if (Object.values(body).every((value) => value === undefined)) throw new UsageError('gateways entitle needs what is to change: --share-mode, --selected, --tag-types, --root or --alias.')
      await call(updateGateway, { params: { sn: words.SERIAL }, body })
      await printer.done({ ok: true }, `${words.SERIAL} is entitled anew; it loads what it may see now.`)
    },
  }),
  command({
    name: 'gateways set-fabric', summary: 'Say that a gateway stands on the fabric: devices that it sees there are on-fabric; or that it does not.',
    words: { SERIAL, STATE: { says: 'on or off', schema: z.enum(['on', 'off'], { error: 'must be on or off' }) } },
    note: 'Off: whom it alone saw leaves the fabric at once. The gateway must tell what it sees: gateway run --firewall.',
    options: {
      networks: { takes: 'CIDR,…', says: 'a device that proves itself by mutual TLS from one of these is there; never the range that a VPN gives out', list: true, schema: listOf(z.string()).optional() },
      neighbours: { takes: 'yes|no', says: 'whether whoever answers with its MAC on a link of the gateway is there; yes unless said', schema: yesOrNo.optional() },
    },
    examples: ['gateways set-fabric SPGW0123456789AB on', 'gateways set-fabric SPGW0123456789AB on --networks 10.20.0.0/16 --neighbours no', 'gateways set-fabric SPGW0123456789AB off'],
    async run({ words, options }, { call, printer }) {
      const { networks = [], neighbours = true } = options
      const isOn = words.STATE === 'on'
      if (!isOn && Object.values(options).some((value) => value !== undefined)) throw new UsageError('--networks and --neighbours stand with on only.')
      if (isOn && !neighbours && networks.length === 0) throw new UsageError('With --neighbours no, say --networks CIDR,…: else it would see nobody there.')
      const gateway = await call(setGatewayFabric, { params: { serial: words.SERIAL }, body: { place: isOn ? { networks, neighbours } : null } })
      await printer.done(gateway, isOn ? `Devices that ${gateway.serial} sees are on the fabric from its next report on, within a minute.` : `What ${gateway.serial} sees puts no device on the fabric.`)
    },
  }),
  command({
    name: 'gateways join-code create', summary: 'Pre-authorise one gateway; the code is shown once.', words: {},
    options: {
      'name': { takes: 'TEXT', says: 'for which gateway it is', schema: line(128).default('command line') },
      'expires-in': { takes: 'SPAN', says: 'like 30m, 1h or 7d; 1h unless said', schema: duration.optional() },
    },
    examples: ['gateways join-code create', 'gateways join-code create --name branch-7 --expires-in 7d --json'],
    async run({ options }, { call, printer, now }) {
      const made = await call(createJoinCode, { body: { name: options.name, expiresInSeconds: options['expires-in'] } })
      await printer.one(made, () => [made.text])
      if (!printer.json) await printer.say(`Shown once; good for one gateway, until ${atAndAgo(made.expiresAt, now())}. Save it to a file there: gateway run --join-code-file FILE …`)
    },
  }),
]
