// Looks where devices say they are: asks the kernel to make sure of neighbours that it has not heard for a while, and of addresses that were just claimed.
import { networkInterfaces } from 'node:os'
import ipaddr from 'ipaddr.js'
import { endpointByUid } from '../../domain/access/snapshot.ts'
import type { Log } from '../../node/logging.ts'
import type { Timers } from '../../node/timers.ts'
import type { World } from '../world.ts'
import type { Commands } from './commands.ts'
import type { NeighbourTable } from './neighbour-table.ts'
import type { TaggedAddresses } from './tagged-addresses.ts'

/** A network that this host is on: whoever is in it can be asked directly. */
export interface OwnNetwork { readonly link: string; readonly cidr: string }

interface Options {
  readonly commands: Commands
  readonly world: World
  readonly table: NeighbourTable
  readonly claims: TaggedAddresses['claims']
  readonly sightMs: number
  readonly networks?: () => readonly OwnNetwork[]
  readonly timers: Timers
  /** ms. */
  readonly now: () => number
  readonly log: Log
}

/** Questions in one round: each is a packet or three on somebody's network. */
const MAX_QUESTIONS = 256
/** Claims of a moment are asked about together. */
const GATHER_MS = 100
const LOOK_EVERY_MS = 1_000
const linkName = /^[A-Za-z0-9_.:-]{1,15}$/

const systemNetworks = (): OwnNetwork[] =>
  Object.entries(networkInterfaces()).flatMap(([link, each]) => (each ?? []).flatMap(({ cidr, internal }) => (internal || cidr === null ? [] : [{ link, cidr }])))

/** The link on which an address can be asked for directly; null when it is behind a router. */
export function linkOf(address: string, networks: readonly OwnNetwork[]): string | null {
  const wanted = ipaddr.parse(address)
  const own = networks.find(({ cidr, link }) => {
    const [network, bits] = ipaddr.parseCIDR(cidr)
    return network.kind() === wanted.kind() && linkName.test(link) && wanted.match([network, bits] as [ipaddr.IPv4, number] & [ipaddr.IPv6, number]) && network.toString() !== wanted.toString()
  })
  return own?.link ?? null
}

/** Starts to look; what is found comes back as events of the neighbour table. */
export function keepLooking({ commands, world, table, claims, sightMs, networks = systemNetworks, timers, now, log }: Options): { close(): void } {
  const claimed = new Set<string>()
  let cancelGather: (() => void) | null = null
  let closed = false
  let warned = false

  const warnOnce = (reason: string) => {
    if (!warned) log.warn({ event: 'neighbours-not-asked', reason }, 'Neighbours can not be asked whether they are still there: a device that is idle ages out.')
    warned = true
  }
  function ask(questions: readonly string[]): void {
    if (questions.length === 0) return
    commands.run('ip', ['-force', '-batch', '-'], `${questions.join('\n')}\n`).then(({ errors }) => {
      // An entry that went away meanwhile is refused by the kernel: that is an answer too, and the others are asked all the same.
      if (errors.includes('Operation not permitted')) warnOnce(errors.split('\n')[0] ?? errors)
    }, (cause: Error) => warnOnce(cause.message))
  }

  /** A quarter of a sight's time passes before its neighbour is asked: an idle laptop stays, and one that left goes soon. */
  function askTheSilent(): void {
    const before = now() - sightMs / 4
    const silent = [...table.addresses()].flatMap((address) => table.entriesOf(address))
      .filter(({ address, link, mac, seenAt }) => (seenAt < before || (seenAt > now() && seenAt !== Infinity)) && linkName.test(link) && claims.claimantsOf(address).some(({ macs }) => macs.includes(mac)))
      .sort((a, b) => a.seenAt - b.seenAt)
    ask(silent.slice(0, MAX_QUESTIONS).map(({ address, link }) => `neigh change ${address} dev ${link} nud probe`))
  }

  function askTheClaimed(): void {
    cancelGather = null
    const own = networks()
    const places = [...claimed].map((address) => ({ address, link: linkOf(address, own) })).filter(({ address, link }) => link !== null && table.entriesOf(address).length === 0)
    claimed.clear()
    ask(places.slice(0, MAX_QUESTIONS).map(({ address, link }) => `neigh replace ${address} dev ${link} use`))
  }

  const leave = world.onChange((changed) => {
    if (changed === 'all') return
    for (const uid of changed) {
      const record = endpointByUid(world.snapshot(), uid)
      for (const address of record?.registered === true ? record.addresses : []) if (claimed.size < MAX_QUESTIONS) claimed.add(address)
    }
    if (claimed.size > 0) cancelGather ??= timers.after(GATHER_MS, askTheClaimed)
  })
  let cancel = () => {}
  const round = () => {
    askTheSilent()
    if (!closed) cancel = timers.after(Math.max(LOOK_EVERY_MS, sightMs / 12), round)
  }
  round()
  return {
    close() {
      closed = true
      leave()
      cancel()
      cancelGather?.()
    },
  }
}
