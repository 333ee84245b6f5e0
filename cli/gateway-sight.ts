// `gateways sight`: what a gateway may see and is told, and whether it sees one endpoint; each with why.
import { gatewaySerial, uid } from '../protocol/ids.ts'
import { readEndpointSight, readGatewaySight } from '../protocol/operations/fabric.ts'
import type { Reply } from '../protocol/operation.ts'
import { command } from './command.ts'
import { ago } from './instants.ts'
import { fields } from './printer.ts'

/** @param now ms */
function describeGateway({ serial, state, counts, neighboursAt, connectionsAt, protocol, because }: Reply<typeof readGatewaySight>, now: number): string[] {
  return [
    `${serial} is ${state}${protocol === null ? '' : `, protocol ${protocol}`}`,
    ...fields([
      ['endpoints', `${counts.inSight ?? 'none'} in sight of ${counts.endpoints}; it subscribed to ${counts.subscribed}`],
      ['tags', `${counts.tagsTold} told of ${counts.tags}`],
      ['sees itself', `${counts.sights} addresses; neighbours told ${ago(neighboursAt, now)}, connections ${ago(connectionsAt, now)}`],
      ['listening', counts.sockets === 0 ? 'no' : 'yes'],
    ]),
    ...because.map((sentence) => `  ${sentence}`),
  ]
}

function describeEndpoint({ serial, uid, seen, because, tags, addresses, claims }: Reply<typeof readEndpointSight>): string[] {
  return [
    `${serial} ${seen ? 'sees' : 'does not see'} ${uid}. ${because}`,
    ...tags.map(({ uid: tagUid, name, state, told, because }) => `  tag "${name || tagUid}" is ${state}, ${told ? 'told' : 'not told'}: ${because}`),
    ...addresses.map(({ gateway, kind, ip, mac, counts, because }) => `  address ${ip}${mac === '' ? '' : ` (${mac})`}, ${kind} of ${gateway}, ${counts ? 'counts' : 'does not count'}: ${because}`),
    `  by its own word it is at ${[...claims.ips, ...claims.macs].join(', ') || 'no address'}`,
  ]
}

export const gatewaySightCommands = [
  command({
    name: 'gateways sight', summary: 'What a gateway may see and is told, and why; with UID, whether it sees that endpoint.',
    words: { SERIAL: { says: 'of the gateway', schema: gatewaySerial }, UID: { says: 'of an endpoint', schema: uid.optional() } }, options: {},
    examples: ['gateways sight SPGW0123456789AB', 'gateways sight SPGW0123456789AB 0123456789abcdef0123456789abcdef --json'],
    missing: () => 'What there is: cli gateways list, cli endpoints list.',
    async run({ words }, { call, printer, now }) {
      if (words.UID === undefined) {
        const sight = await call(readGatewaySight, { params: { serial: words.SERIAL } })
        return await printer.one(sight, () => describeGateway(sight, now()))
      }
      const sight = await call(readEndpointSight, { params: { serial: words.SERIAL, uid: words.UID } })
      await printer.one(sight, () => describeEndpoint(sight))
    },
  }),
]
