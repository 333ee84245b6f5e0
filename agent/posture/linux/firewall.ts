// Whether this machine filters what comes to it, read from `nft list ruleset`. It says that something may be refused, not that the rules are good.
import type { Sections } from '../../../protocol/facts.ts'

type Firewall = Sections['security']['firewall']
interface Chain { readonly hooksInput: boolean; readonly policyDrops: boolean; readonly refuses: boolean; readonly leadsTo: readonly string[] }

/** Chains of `nft list ruleset` by `family table chain`. Comments are taken away first: a comment may say "drop". */
function readChains(ruleset: string): Map<string, Chain> {
  const chains = new Map<string, Chain>()
  let table = ''
  for (const block of ruleset.replaceAll(/"[^"\n]*"/g, '""').split(/^(?=table |\s*chain )/m)) {
    table = /^table (\S+ \S+)/.exec(block)?.[1] ?? table
    const name = /^\s*chain (\S+)/.exec(block)?.[1]
    if (name === undefined) continue
    const base = /type filter hook input priority [^;]+;(?:\s*policy (\w+);)?/.exec(block)
    const rules = block.replace(/policy \w+;/, '')
    chains.set(`${table} ${name}`, {
      hooksInput: base !== null, policyDrops: base?.[1] === 'drop', refuses: /[\s:](drop|reject)(?=[\s,}]|$)/.test(rules),
      leadsTo: [...rules.matchAll(/\b(?:jump|goto) ([^\s,}]+)/g)].map(([, target]) => `${table} ${target ?? ''}`),
    })
  }
  return chains
}

/**
 * On when IPv4 traffic to this machine may be refused: a chain that hooks into input has a policy of drop, or leads to a rule that drops or rejects.
 * What filters forwarded traffic (containers) protects nothing here.
 * @param ruleset null when it can't be read
 */
export function firewallState(ruleset: string | null): Firewall {
  if (ruleset === null) return { state: 'unknown', product: '' }
  const chains = readChains(ruleset)
  const reached = new Set([...chains].filter(([name, { hooksInput }]) => hooksInput && /^(ip|inet) /.test(name)).map(([name]) => name))
  // A set grows while it is walked: what a chain leads to is reached too, each once.
  for (const name of reached) for (const next of chains.get(name)?.leadsTo ?? []) reached.add(next)
  const on = [...reached].some((name) => (chains.get(name)?.hooksInput === true && chains.get(name)?.policyDrops === true) || chains.get(name)?.refuses === true)
  return { state: on ? 'on' : 'off', product: 'nftables' }
}
