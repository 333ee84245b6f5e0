// The room's parts joined: what this gateway sees, the tags that addresses bear by it, and the packet filter that follows. Lists are served beside it.
import type { ControlClient } from '../../node/control-client.ts'
import type { Log } from '../../node/logging.ts'
import { tagName } from '../../protocol/rules.ts'
import type { Metrics } from '../metrics/metrics.ts'
import type { ProvedPeer } from '../proxy/peer.ts'
import type { Timers } from '../../node/timers.ts'
import type { World } from '../world.ts'
import type { Commands } from './commands.ts'
import { keepLooking, type OwnNetwork } from './look.ts'
import { followNeighbours, type Neighbours } from './neighbours.ts'
import { keepPacketFilter, type PacketFilter } from './packet-filter.ts'
import { reportSights, type SightReports } from './report-sights.ts'
import { followSources } from './sources/follow-sources.ts'
import { openSources } from './sources/read-source.ts'
import type { SightSources } from './sources/sources-file.ts'
import { createTaggedAddresses, type TaggedAddresses } from './tagged-addresses.ts'

export interface FirewallOptions {
  readonly world: World
  /** Tells the EMS what is seen; null: nobody is told. */
  readonly client: Pick<ControlClient, 'call'> | null
  readonly serial: string
  readonly commands: Commands
  /** Whether nftables' sets are kept; without them addresses are only known, for lists. */
  readonly filter: boolean
  readonly sightMs: number
  readonly staleMs: number
  /** DHCP and VPN servers of this host that see devices too. */
  readonly sources?: SightSources | null
  readonly networks?: () => readonly OwnNetwork[]
  readonly metrics: Metrics
  readonly timers: Timers
  /** ms. */
  readonly now: () => number
  readonly log: Log
}

export interface Firewall {
  readonly addresses: TaggedAddresses
  readonly neighbours: Neighbours
  /** The proxy's word that a device proved itself from an address. */
  proved(peer: ProvedPeer, address: string): () => void
  close(): Promise<void>
}

/** Starts it; resolves when the neighbour table has been read and the kernel's sets are right. Throws when `ip` or `nft` can't be used. */
export async function startFirewall(options: FirewallOptions): Promise<Firewall> {
  const { world, client, commands, sightMs, staleMs, metrics, timers, now, log } = options
  const closing: (() => Promise<void> | void)[] = []
  const close = async () => {
    for (const each of closing.reverse().splice(0)) await each()
  }
  try {
    let neighbours: Neighbours | null = null
    let reports: SightReports | null = null
    const addresses = createTaggedAddresses({ world, neighbours: () => neighbours?.table ?? null, onSight: (address) => reports?.changed(address), sightMs, staleMs, timers, now, log })
    closing.push(() => addresses.close())
    neighbours = await followNeighbours({ commands, timers, now, log, onChange: addresses.neighbourChanged })
    closing.push(() => neighbours?.close())
    addresses.refreshAll()
    const looking = keepLooking({ ...options, table: neighbours.table, claims: addresses.claims })
    closing.push(() => looking.close())
    if (client !== null) reports = reportSights({ ...options, client, table: neighbours.table, connections: addresses.connections, told: addresses.told })
    closing.push(() => reports?.close())
    if (options.sources != null) {
      const following = await followSources({ sources: openSources(options.sources, { commands, sightMs }), sights: addresses.told, timers, now, log })
      closing.push(() => following.close())
    }
    const tagNames = () => {
      const { tagNames: names, currentAt } = world.snapshot()
      return currentAt === null ? null : [...new Set(names.values())].filter((name) => tagName.safeParse(name).success)
    }
    if (options.filter) {
      const filter: PacketFilter = await keepPacketFilter({ commands, addresses, tagNames, metrics, timers, now, log })
      let known = world.snapshot().tagNames
      const leave = world.onChange(() => {
        const { tagNames: names } = world.snapshot()
        if (names !== known) filter.tagsChanged()
        known = names
      })
      closing.push(() => filter.close(), leave)
    }
    return { addresses, neighbours, proved: (peer, address) => addresses.connections.opened(peer, address), close }
  } catch (cause) {
    await close()
    throw cause
  }
}
