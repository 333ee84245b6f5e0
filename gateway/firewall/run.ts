// Runs the room for one gateway by its settings: sight, packet filter, address lists, and the list listener's certificate as it is renewed.
import { readFile, stat } from 'node:fs/promises'
import type { ControlClient } from '../../node/control-client.ts'
import type { Log } from '../../node/logging.ts'
import type { Membership } from '../fabric/membership.ts'
import type { Metrics } from '../metrics/metrics.ts'
import type { ProvedPeer } from '../proxy/peer.ts'
import type { Timers } from '../../node/timers.ts'
import type { World } from '../world.ts'
import { createAddressLists } from './address-lists.ts'
import type { FirewallSettings } from './command-line.ts'
import { systemCommands, type Commands } from './commands.ts'
import { createListAnswers } from './list-requests.ts'
import { createTokenCheck } from './list-tokens.ts'
import { serveLists, type ListIdentity } from './serve-lists.ts'
import { readSources, type SightSources } from './sources/sources-file.ts'
import { startFirewall } from './start.ts'

interface Options {
  readonly settings: FirewallSettings
  readonly directory: string
  readonly membership: Membership
  readonly client: Pick<ControlClient, 'call'>
  readonly world: World
  readonly metrics: Metrics
  readonly timers: Timers
  /** ms. */
  readonly now: () => number
  readonly log: Log
  readonly commands?: Commands
}

export interface RunningFirewall {
  /** Where address lists are served; null: nowhere. */
  readonly listsPort: number | null
  proved(peer: ProvedPeer, address: string): () => void
  close(): Promise<void>
}

/** How often certificate files are looked at: whoever renews them tells nobody. */
const LOOK_AT_FILES_MS = 60_000

type Files = NonNullable<NonNullable<FirewallSettings['lists']>['files']>
const identityInFiles = async ({ certificate, key }: Files): Promise<ListIdentity> => ({ certPem: await readFile(certificate, 'utf8'), keyPem: await readFile(key, 'utf8') })
const versionOf = async ({ certificate, key }: Files): Promise<string> => (await Promise.all([stat(certificate), stat(key)])).map(({ mtimeMs, ino }) => `${ino} ${mtimeMs}`).join()

async function sourcesIn(file: string): Promise<SightSources> {
  const read = readSources(await readFile(file, 'utf8'))
  if (!read.ok) throw new Error(read.errors.map((error) => `${file}: ${error}`).join('\n'))
  return read.sources
}

/** Resolves when all of it stands. Throws when any part can't: a gateway that was told to filter must not run without. */
export async function runFirewall({ settings, directory, membership, ...options }: Options): Promise<RunningFirewall> {
  const { world, timers, now, log, commands = systemCommands() } = options
  const { serial } = membership.member().stored
  const firewall = await startFirewall({ ...options, ...settings, serial, commands, sources: settings.sightsFile === undefined ? null : await sourcesIn(settings.sightsFile) })
  if (settings.lists === null) return { listsPort: null, proved: firewall.proved, close: firewall.close }
  const { listen, files } = settings.lists
  const ownIdentity = (): ListIdentity => {
    const { certificate, privateKey } = membership.member().stored
    return { certPem: certificate, keyPem: privateKey }
  }
  const lists = createAddressLists({
    world, addresses: firewall.addresses, serial, now,
    signer: () => ({ privateKey: membership.member().privateKey, certificateDer: membership.member().certificate.der }),
  })
  try {
    let version = files === null ? '' : await versionOf(files)
    const server = await serveLists({
      listen, log, identity: files === null ? ownIdentity() : await identityInFiles(files), answer: createListAnswers({ lists, serial, nameOf: createTokenCheck(directory), now }),
    })
    let cancel = () => {}
    const renew = async (from: Files): Promise<void> => {
      const seen = await versionOf(from)
      if (seen === version) return
      server.updateIdentity(await identityInFiles(from))
      version = seen
      log.info({ event: 'list-certificate-renewed' }, 'Address lists are served with the new certificate.')
    }
    const watch = (from: Files) => {
      cancel = timers.after(LOOK_AT_FILES_MS, () => {
        renew(from).catch((cause: Error) => log.error({ event: 'list-certificate-unusable', reason: cause.message }, 'The certificate files for address lists can not be used; the certificate before stays.'))
          .finally(() => watch(from))
      })
    }
    if (files !== null) watch(files)
    const leave = files === null ? membership.onChange(() => server.updateIdentity(ownIdentity())) : () => {}
    log.info({ event: 'lists-served', port: server.port }, 'Address lists are served.')
    return {
      listsPort: server.port, proved: firewall.proved,
      async close() {
        leave()
        cancel()
        await server.close()
        await firewall.close()
      },
    }
  } catch (cause) {
    await firewall.close()
    throw cause
  }
}
