// Keeps the machine so that programs without proxy settings reach what is protected: names by the hosts file, addresses by the packet
// filter. What can't be had is said, the rest works; whatever was changed is put back when the agent stops, at the latest by its next start.
import type { Timers } from '../../../node/timers.ts'
import type { ProfileSettings } from '../../../protocol/profile.ts'
import type { Opener } from '../opener.ts'
import type { End } from '../peer-owner.ts'
import type { Target } from '../target.ts'
import type { TunnelLog } from '../tunnel-log.ts'
import { keepHosts } from './hosts-file.ts'
import { addressesOf, isOfNames } from './loopback-addresses.ts'
import { createMark, type TransparentPlace } from './mark.ts'
import { createNameListeners } from './name-listeners.ts'
import { systemNft } from './nft.ts'
import { createRedirect, type Filtered } from './redirect.ts'
import { createTransparentServer } from './serve.ts'
import { joined, less, wantedOf, type PortRange } from './wanted.ts'
import { watchTable, type TableWatch } from './watch-table.ts'

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
/** A packet filter that refuses is asked less and less often: at least once an hour. */
const MOST_LOOKS_SKIPPED = 240
const off: TransparentState = { asked: false, served: [], lacking: [] }

/** @param ownNames names that the agent itself must reach: its EMS; its gateways are known from the settings */
export function keepTransparent({ place, isAsked, ownNames, ownerUid, open, isProtected, timers, log, onDefect }: {
  place: TransparentPlace; isAsked: boolean; ownNames: readonly string[]; ownerUid: number
  open: Opener; isProtected: (target: Target) => boolean; timers: Timers; log: TunnelLog; onDefect: (cause: unknown) => void
}): Transparent {
  const { hostsFile, nft = systemNft } = place
  const mark = createMark(place)
  let state: TransparentState = off
  let applied: ProfileSettings | null = null
  let nameAt: ReadonlyMap<string, string> = new Map()
  let lastRefusal: string | null = null
  let failures = 0
  let looksToSkip = 0
  let closed = false
  let cancelLook = () => {}
  let watch: TableWatch | null = null
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

  /** @returns why the packet filter does not do it */
  async function filter(filtered: Filtered): Promise<string | null> {
    const agentUid = process.geteuid?.()
    if (agentUid !== 0) return 'the agent does not run as root'
    if (agentUid === ownerUid) return 'the agent runs as the enrolled user, so its own connections could not be told from theirs'
    if (looksToSkip > 0) {
      looksToSkip -= 1
      return lastRefusal
    }
    lastRefusal = await mark.willMakeTable() ?? await redirect.put(filtered)
    failures = lastRefusal === null ? 0 : failures + 1
    looksToSkip = failures === 0 ? 0 : Math.min(2 ** failures, MOST_LOOKS_SKIPPED)
    return lastRefusal
  }
  function watchNoMore(): void {
    watch?.stop()
    watch = null
  }
  async function clear(): Promise<string | null> {
    watchNoMore()
    await hosts.put(new Map())
    await redirect.put({ redirected: new Map(), listened: new Map() })
    await listeners.put(new Map(), new Map())
    return await mark.restore()
  }

  async function reconcile(settings: ProfileSettings): Promise<void> {
    if (!isAsked && !settings.tunnel.transparent) {
      const reason = await mark.stands() ? await clear() : null
      state = reason === null ? off : { ...off, lacking: [`what the agent changed could not be put back: ${reason}`] }
      return
    }
    const wanted = wantedOf(settings, new Set([...ownNames, ...settings.gateways.map(({ host }) => host)]))
    const forbidden = process.platform === 'linux' ? await mark.willChange() : `it can be had on Linux only, not on ${process.platform}`
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
    if (redirect.stands()) watch ??= watchTable({ timers, onGone: () => { void turn() } })
    else await mark.madeNoTable()
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
      looksToSkip = 0
      return turn()
    },
    async close() {
      closed = true
      await working
      // What was under way may have begun both anew.
      cancelLook()
      watchNoMore()
      await hosts.close()
      const reason = await mark.restore()
      if (reason !== null) log.error({ event: 'machine_not_restored', reason }, 'What the agent changed on this machine could not be put back; its next start will')
      await redirect.close()
      await listeners.close()
    },
  }
}
