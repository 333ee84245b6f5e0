// Keeps the machine so that programs without proxy settings reach what is protected: names by the hosts file, addresses by the packet
// filter. What can't be had is said, the rest works; whatever was changed is put back when the agent stops, at the latest by its next start.
import { rm } from 'node:fs/promises'
import { readPrivateFile, writePrivateFile } from '../../../node/key-store.ts'
import type { Timers } from '../../../node/timers.ts'
import type { ProfileSettings } from '../../../protocol/profile.ts'
import { systemFailure } from '../../failure.ts'
import type { Opener } from '../opener.ts'
import type { End } from '../peer-owner.ts'
import type { Target } from '../target.ts'
import type { TunnelLog } from '../tunnel-log.ts'
import { keepHosts, removeBlock } from './hosts-file.ts'
import { addressesOf, isOfNames } from './loopback-addresses.ts'
import { createNameListeners } from './name-listeners.ts'
import { systemNft, type Nft } from './nft.ts'
import { createRedirect, removeTable, type Filtered } from './redirect.ts'
import { createTransparentServer } from './serve.ts'
import { joined, less, wantedOf, type PortRange } from './wanted.ts'

/** Where the machine is changed. */
export interface TransparentPlace {
  /** `/etc/hosts` */
  readonly hostsFile: string
  /** Stands while something outside the state directory is changed, so that what a crash leaves is found. */
  readonly marker: string
  readonly nft?: Nft
}
export interface TransparentState {
  /** By the profile, or by whoever started the agent. */
  readonly asked: boolean
  /** Names and ranges that programs reach without settings. */
  readonly served: readonly string[]
  /** What they do not, and why; a sentence each. */
  readonly lacking: readonly string[]
}
export interface Transparent {
  state(): TransparentState
  /** Resolves when the machine is as the settings say, as far as it can be. */
  apply(settings: ProfileSettings): Promise<void>
  close(): Promise<void>
}

const LOOK_EVERY_MS = 15_000
const off: TransparentState = { asked: false, served: [], lacking: [] }

/** What stands in the marker: a table was made too, or is about to be. */
const WITH_TABLE = 'hosts and table\n'
const HOSTS_ONLY = 'hosts\n'

async function restoreHosts(hostsFile: string): Promise<string | null> {
  try {
    await removeBlock(hostsFile)
    return null
  } catch (cause) {
    const reason = systemFailure(cause)
    if (reason === null) throw cause
    return `${hostsFile}: ${reason}`
  }
}

/** Takes back what this agent, or one that was killed, has changed; does nothing where none was. @returns why it could not; null: the machine is as it was */
export async function restoreMachine({ hostsFile, marker, nft = systemNft }: TransparentPlace): Promise<string | null> {
  const changed = await readPrivateFile(marker)
  if (changed === null) return null
  const left = [await restoreHosts(hostsFile)]
  if (changed === WITH_TABLE) {
    const refusal = await removeTable(nft)
    left.push(refusal === null ? null : `${refusal} (by hand: nft delete table inet sallyport_agent)`)
  }
  const reasons = left.filter((reason) => reason !== null)
  if (reasons.length > 0) return reasons.join('; ')
  await rm(marker, { force: true })
  return null
}

/** @param ownNames names that the agent itself must reach: its EMS; its gateways are known from the settings */
export function keepTransparent({ place, isAsked, ownNames, ownerUid, open, isProtected, timers, log, onDefect }: {
  place: TransparentPlace; isAsked: boolean; ownNames: readonly string[]; ownerUid: number
  open: Opener; isProtected: (target: Target) => boolean; timers: Timers; log: TunnelLog; onDefect: (cause: unknown) => void
}): Transparent {
  const { hostsFile, marker, nft = systemNft } = place
  let state: TransparentState = off
  let applied: ProfileSettings | null = null
  let nameAt: ReadonlyMap<string, string> = new Map()
  let marked: string | null = null
  let closed = false
  let cancelLook = () => {}
  let working: Promise<void> = Promise.resolve()

  const server = createTransparentServer({ open, isProtected, timers, log })
  const targetOf = ({ address, port }: End): Target | null => {
    const host = isOfNames(address) ? nameAt.get(address) : address
    return host === undefined ? null : { host, port }
  }
  const listeners = createNameListeners({ ownerUid, serve: server.name, log })
  const redirect = createRedirect({
    ownerUid, nft, log,
    isWanted(dialled) {
      const target = targetOf(dialled)
      return target !== null && isProtected(target)
    },
    serve(socket, dialled) {
      const target = targetOf(dialled)
      if (target === null) socket.destroy()
      else if (isOfNames(dialled.address)) server.name(socket, target)
      else server.address(socket, target)
    },
  })
  const hosts = keepHosts({ path: hostsFile, timers, log, onDefect })

  /** @returns why the machine may not be changed: what a crash left could not be found again */
  async function mark(text: string): Promise<string | null> {
    if (marked === text) return null
    try {
      await writePrivateFile(marker, text)
      marked = text
      return null
    } catch (cause) {
      const reason = systemFailure(cause)
      if (reason === null) throw cause
      return `${marker}: ${reason}`
    }
  }
  /** @returns why the packet filter does not do it */
  async function filter(filtered: Filtered): Promise<string | null> {
    if (process.getuid?.() === ownerUid) return 'the agent runs as the enrolled user, so its own connections could not be told from theirs'
    const refusal = await mark(WITH_TABLE) ?? await redirect.put(filtered)
    // Where none was ever made, none has to be taken away, by an agent that may not even look.
    return redirect.stands() ? refusal : await mark(HOSTS_ONLY) ?? refusal
  }
  async function clear(): Promise<string | null> {
    await hosts.put(new Map())
    await redirect.put({ redirected: new Map(), listened: new Map() })
    await listeners.put(new Map(), new Map())
    const reason = await restoreMachine(place)
    if (reason === null) marked = null
    return reason
  }

  async function reconcile(settings: ProfileSettings): Promise<void> {
    if (!isAsked && !settings.tunnel.transparent) {
      const reason = await readPrivateFile(marker) === null ? null : await clear()
      state = reason === null ? off : { ...off, lacking: [`what the agent changed could not be put back: ${reason}`] }
      return
    }
    const wanted = wantedOf(settings, new Set([...ownNames, ...settings.gateways.map(({ host }) => host)]))
    const forbidden = process.platform === 'linux' ? await mark(marked ?? await readPrivateFile(marker) ?? HOSTS_ONLY) : `it can be had on Linux only, not on ${process.platform}`
    const lacking = wanted.left.map((each) => `${each}: by the PAC file and SOCKS only`)
    if (forbidden !== null) {
      state = { asked: true, served: [], lacking: [`names and ranges: ${forbidden}`, ...lacking] }
      return
    }
    const addresses = addressesOf(wanted.names.keys())
    nameAt = new Map([...addresses].map(([name, address]) => [address, name]))
    const without = await listeners.put(wanted.names, addresses)
    const redirected = new Map<string, readonly PortRange[]>(wanted.ranges)
    for (const { name, ports } of without) {
      const range = `${addresses.get(name) ?? ''}/32`
      redirected.set(range, joined([...redirected.get(range) ?? [], ...ports]))
    }
    const listened = new Map([...addresses].map(([name, address]) => [address, less(wanted.names.get(name) ?? [], without.filter((each) => each.name === name).flatMap(({ ports }) => ports))]))
    const refusal = await filter({ redirected, listened })
    const isServed = (name: string) => refusal === null || (listened.get(addresses.get(name) ?? '') ?? []).length > 0
    const served = new Map([...addresses].filter(([name]) => isServed(name)))
    const unwritten = await hosts.put(served)
    if (refusal !== null) {
      for (const { name, ports, reason } of without) lacking.push(`${name} port ${ports.map(({ from, to }) => (from === to ? from : `${from}-${to}`)).join(', ')}: ${reason}; ${refusal}`)
      if (wanted.ranges.size > 0) lacking.push(`${[...wanted.ranges.keys()].join(', ')}: ${refusal}`)
    }
    if (unwritten !== null) lacking.push(`names: ${unwritten}`)
    state = { asked: true, lacking, served: [...unwritten === null ? served.keys() : [], ...refusal === null ? wanted.ranges.keys() : []] }
  }
  async function attempt(): Promise<void> {
    if (applied === null || closed) return
    const before = JSON.stringify(state)
    await reconcile(applied)
    // What could not be had is tried again, and what somebody else took away is put back.
    cancelLook()
    if (state.asked || state.lacking.length > 0) cancelLook = timers.after(LOOK_EVERY_MS, () => { void turn() })
    if (JSON.stringify(state) !== before) log.info({ event: 'transparent', ...state }, state.asked ? 'Programs reach what is protected without settings of their own' : 'Programs need settings to reach what is protected')
  }
  const turn = (): Promise<void> => {
    working = working.then(attempt).catch(onDefect)
    return working
  }
  return {
    state: () => state,
    apply(settings) {
      applied = settings
      return turn()
    },
    async close() {
      closed = true
      cancelLook()
      await working
      await hosts.close()
      const reason = await restoreMachine(place)
      if (reason !== null) log.error({ event: 'machine_not_restored', reason }, 'What the agent changed on this machine could not be put back; its next start will')
      await redirect.close()
      await listeners.close()
    },
  }
}
