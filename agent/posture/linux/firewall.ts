// Whether this machine filters what comes to it, read from the kernel's own rules. It says that something may be refused, not that the rules are good.
import { join } from 'node:path'
import type { Sections, State } from '../../../protocol/facts.ts'
import { isThere, readText, type RunCommand } from '../read.ts'

type Firewall = Sections['security']['firewall']
interface Chain { readonly hooksInput: boolean; readonly policyDrops: boolean; readonly refuses: boolean; readonly leadsTo: readonly string[] }
type Chains = ReadonlyMap<string, Chain>

/** Chains of `nft list ruleset` by `family table chain`. Comments are taken away first: a comment may say "drop". */
export function readRuleset(ruleset: string): Chains {
  const chains = new Map<string, Chain>()
  let table = ''
  for (const block of ruleset.replaceAll(/"[^"\n]*"/g, '""').split(/^(?=table |\s*chain )/m)) {
    table = /^table (\S+ \S+)/.exec(block)?.[1] ?? table
    const name = /^\s*chain (\S+)/.exec(block)?.[1]
    if (name === undefined) continue
    const base = /type filter hook input priority [^;]+;(?:\s*policy (\w+);)?/.exec(block)
    const rules = block.replace(/policy \w+;/, '')
    chains.set(`${table} ${name}`, {
      // What filters IPv6 or ARP alone leaves most of what comes in alone.
      hooksInput: base !== null && /^(ip|inet) /.test(table), policyDrops: base?.[1] === 'drop', refuses: /[\s:](drop|reject)(?=[\s,}]|$)/.test(rules),
      leadsTo: [...rules.matchAll(/\b(?:jump|goto) ([^\s,}]+)/g)].map(([, target]) => `${table} ${target ?? ''}`),
    })
  }
  return chains
}

/** Chains of the filter table as `iptables-save` prints it. */
export function readSaved(saved: string): Chains {
  const chains = new Map<string, { hooksInput: boolean; policyDrops: boolean; refuses: boolean; leadsTo: string[] }>()
  let table = ''
  for (const row of saved.replaceAll(/"(?:[^"\\\n]|\\.)*"/g, '""').split('\n')) {
    table = /^\*(\S+)/.exec(row)?.[1] ?? table
    if (table !== 'filter') continue
    const [, declared, policy] = /^:(\S+) (\S+)/.exec(row) ?? []
    if (declared !== undefined) chains.set(`ip filter ${declared}`, { hooksInput: declared === 'INPUT', policyDrops: policy === 'DROP', refuses: false, leadsTo: [] })
    const [, name, target] = /^-A (\S+)(?: .*)? (?:-j|-g|--jump|--goto) (\S+)/.exec(row) ?? []
    const chain = chains.get(`ip filter ${name ?? ''}`)
    if (chain === undefined) continue
    if (target === 'DROP' || target === 'REJECT') chain.refuses = true
    else chain.leadsTo.push(`ip filter ${target ?? ''}`)
  }
  return chains
}

/** Whether a chain that hooks into input has a policy of drop, or leads to a rule that drops or rejects. What filters forwarded traffic (containers) protects nothing here. */
export function refusesInput(chains: Chains): boolean {
  const reached = new Set([...chains].filter(([, { hooksInput }]) => hooksInput).map(([name]) => name))
  // A set grows while it is walked: what a chain leads to is reached too, each once.
  for (const name of reached) for (const next of chains.get(name)?.leadsTo ?? []) reached.add(next)
  return [...reached].some((name) => {
    const chain = chains.get(name)
    return chain?.refuses === true || (chain?.hooksInput === true && chain.policyDrops)
  })
}

export interface FirewallFacts { readonly firewall: Firewall; readonly nftables: State; readonly ufw: State; readonly firewalld: State }

/** @param root where the machine's file system begins */
export async function linuxFirewall(root: string, run: RunCommand): Promise<FirewallFacts> {
  const ruleset = await run('nft', ['list', 'ruleset'])
  const chains = ruleset === null ? null : readRuleset(ruleset)
  const nftables: State = chains === null ? 'unknown' : refusesInput(chains) ? 'on' : 'off'
  // nft does not show the older kernel tables; where it is missing, iptables may speak of either.
  const older = /^filter$/m.test(await readText(join(root, 'proc/net/ip_tables_names')) ?? '')
  const saved = older ? await run('iptables-legacy-save', ['-t', 'filter']) ?? await run('iptables-save', ['-t', 'filter']) : chains === null ? await run('iptables-save', ['-t', 'filter']) : ''
  const savedChains = saved === null ? null : readSaved(saved)
  const iptables: State = savedChains === null ? 'unknown' : refusesInput(savedChains) ? 'on' : 'off'
  // Without nft, an empty answer of iptables says nothing of what nft would have shown.
  const state: State = nftables === 'on' || iptables === 'on' ? 'on' : nftables === 'off' && iptables === 'off' ? 'off' : 'unknown'
  const known = chains === null || savedChains === null ? null : [...chains.keys(), ...savedChains.keys()]
  const ofProduct = async (installed: string, says: (file: string | null) => boolean, mark: RegExp): Promise<State> => {
    const path = join(root, installed)
    if (!await isThere(path)) return 'off'
    if (!says(await readText(path))) return 'off'
    return known === null ? 'unknown' : state === 'on' && known.some((name) => mark.test(name)) ? 'on' : 'off'
  }
  const ufw = await ofProduct('etc/ufw/ufw.conf', (conf) => conf === null || /^\s*ENABLED\s*=\s*["']?yes/im.test(conf), / ufw6?-(before|user|after)-input$/)
  const firewalld = await ofProduct('etc/firewalld', () => true, /^inet firewalld filter_INPUT|^ip filter INPUT_ZONES$/)
  const product = state === 'unknown' ? '' : firewalld === 'on' ? 'firewalld' : ufw === 'on' ? 'ufw' : nftables !== 'on' && iptables === 'on' ? 'iptables' : 'nftables'
  return { firewall: { state, product }, nftables, ufw, firewalld }
}
