// The room's part of the gateway's command line: what `run` takes for it, and its own commands. Parsed once; running them is done here too, for they touch nothing but the state directory.
import { UsageError } from '../../node/config.ts'
import { tagName } from '../../protocol/rules.ts'
import { line } from '../../protocol/text.ts'
import { readMembership } from '../fabric/membership.ts'
import { loadSnapshot } from '../fabric/snapshot-file.ts'
import { checkSources, describeSources } from './sources/check-sources.ts'
import { sourcesSchema } from './sources/sources-file.ts'
import { createToken, readTokens, revokeToken } from './list-tokens.ts'
import { filterTemplate } from './template.ts'

export const firewallUsage = `
  gateway firewall template [--state DIR] [--tag NAME]
      Prints nftables rules that let devices with a tag through this host; with the state directory, with the sets of every tag it knows.
  gateway firewall check FILE [--json]
      Reads a file for --sights, asks each source in it once, and says what it tells; 1 when something is wrong.
  gateway firewall schema
      The JSON schema of that file, for editors.
  gateway lists token create NAME | list | revoke NAME   --state DIR [--json]
      Tokens by which existing firewalls poll the address lists. A token is shown once.
`
export const firewallRunUsage = `[--firewall] [--lists HOST:PORT [--lists-cert FILE --lists-key FILE]] [--sight-seconds N] [--stale-seconds N] [--sights FILE]
      --firewall keeps nftables' sets of this host (table inet sallyport) by Zero Trust tag; it needs root, nftables and iproute2.
      --lists serves the same as plain text over HTTPS. An address is in them while this gateway itself sees the device there:
      for --sight-seconds (120) after it was last certain, and until the EMS has been silent for --stale-seconds (180).
      --sights names DHCP and VPN servers of this host that see devices too (YAML: leases, wireguard, vpn).`

const text = { type: 'string' } as const
export const firewallOptions = { 'firewall': { type: 'boolean' }, 'lists': text, 'lists-cert': text, 'lists-key': text, 'sight-seconds': text, 'stale-seconds': text, 'sights': text, 'tag': text } as const
interface Values { 'firewall'?: boolean; 'lists'?: string; 'lists-cert'?: string; 'lists-key'?: string; 'sight-seconds'?: string; 'stale-seconds'?: string; 'sights'?: string; 'tag'?: string }

export interface FirewallSettings {
  /** Whether nftables' sets are kept. */
  readonly filter: boolean
  readonly lists: { readonly listen: { readonly host: string; readonly port: number }; readonly files: { readonly certificate: string; readonly key: string } | null } | null
  readonly sightMs: number
  readonly staleMs: number
  /** Names further sources of sights. */
  readonly sightsFile?: string
}

export type FirewallCommand =
  | { readonly verb: 'firewall-template'; readonly stateDirectory: string | null; readonly tag: string | null }
  | { readonly verb: 'firewall-schema' }
  | { readonly verb: 'firewall-check'; readonly file: string; readonly json: boolean }
  | { readonly verb: 'list-token'; readonly action: 'create' | 'revoke'; readonly name: string; readonly stateDirectory: string; readonly json: boolean }
  | { readonly verb: 'list-token'; readonly action: 'list'; readonly stateDirectory: string; readonly json: boolean }

function milliseconds(option: string, value: string | undefined, otherwise: number): number {
  const seconds = value === undefined ? otherwise : Number(value)
  if (!Number.isInteger(seconds) || seconds < 1 || seconds > 86_400) throw new UsageError(`--${option} takes whole seconds, 1 to 86400.`)
  return seconds * 1000
}

/** What `run` was told of this room; null: nothing of it is wanted. Throws `UsageError`. */
export function readFirewallSettings(values: Values, readListen: (value: string, option: string) => { host: string; port: number }): FirewallSettings | null {
  const { firewall = false, lists, 'lists-cert': certificate, 'lists-key': key } = values
  if ((certificate === undefined) !== (key === undefined) || (certificate !== undefined && lists === undefined)) throw new UsageError('--lists-cert and --lists-key stand together, with --lists.')
  const sightMs = milliseconds('sight-seconds', values['sight-seconds'], 120)
  const staleMs = milliseconds('stale-seconds', values['stale-seconds'], 180)
  if (!firewall && lists === undefined) {
    if ([values['sight-seconds'], values['stale-seconds'], values.sights].some((value) => value !== undefined)) throw new UsageError('--sight-seconds, --stale-seconds and --sights stand with --firewall or --lists.')
    return null
  }
  const files = certificate === undefined || key === undefined ? null : { certificate, key }
  return { filter: firewall, lists: lists === undefined ? null : { listen: readListen(lists, '--lists'), files }, sightMs, staleMs, ...(values.sights === undefined ? {} : { sightsFile: values.sights }) }
}

/** Reads `firewall …` and `lists …`. Throws `UsageError`. */
export function readFirewallCommand(words: readonly string[], { tag, stateDirectory, json }: { tag?: string; stateDirectory?: string; json: boolean }): FirewallCommand {
  const [room, ...rest] = words
  if (room === 'firewall') {
    const [verb, file, ...more] = rest
    if (verb === 'schema' && file === undefined) return { verb: 'firewall-schema' }
    if (verb === 'check' && file !== undefined && more.length === 0) return { verb: 'firewall-check', file, json }
    if (rest.join(' ') !== 'template') throw new UsageError('firewall takes template, check FILE, or schema.')
    if (tag !== undefined && !tagName.safeParse(tag).success) throw new UsageError('--tag takes the name of a Zero Trust tag.')
    return { verb: 'firewall-template', stateDirectory: stateDirectory ?? null, tag: tag ?? null }
  }
  const [noun, action, name, ...others] = rest
  if (noun !== 'token' || others.length > 0) throw new UsageError('lists token takes create NAME, list, or revoke NAME.')
  if (stateDirectory === undefined) throw new UsageError('lists token needs --state DIR.')
  if (action === 'list' && name === undefined) return { verb: 'list-token', action, stateDirectory, json }
  if ((action !== 'create' && action !== 'revoke') || name === undefined) throw new UsageError('lists token takes create NAME, list, or revoke NAME.')
  if (!line(64).safeParse(name).success) throw new UsageError('A token\'s name is one line of at most 64 characters.')
  return { verb: 'list-token', action, name, stateDirectory, json }
}

interface Voice { readonly print: (text: string) => void; readonly tell: (text: string) => void; readonly now: () => number }

async function knownTags(directory: string | null, now: number): Promise<string[]> {
  const membership = directory === null ? null : await readMembership(directory)
  const loaded = directory === null || membership === null ? null : await loadSnapshot(directory, membership.serial, now)
  return loaded?.ok === true ? [...loaded.state.snapshot.tagsByName.keys()].filter((name) => tagName.safeParse(name).success).sort() : []
}

/** Runs one of the room's commands. @returns the exit code */
export async function runFirewallCommand(command: FirewallCommand, { print, tell, now }: Voice): Promise<number> {
  if (command.verb === 'firewall-template') {
    const tags = await knownTags(command.stateDirectory, now())
    print(filterTemplate(tags, command.tag ?? tags[0] ?? 'healthy').trimEnd())
    return 0
  }
  if (command.verb === 'firewall-schema') {
    print(JSON.stringify(sourcesSchema(), null, 2))
    return 0
  }
  if (command.verb === 'firewall-check') {
    const found = await checkSources(command.file, now())
    if (command.json) print(JSON.stringify(found))
    else for (const sentence of describeSources(found)) tell(sentence)
    return found.ok ? 0 : 1
  }
  const { stateDirectory, json } = command
  if (command.action === 'list') {
    const tokens = (await readTokens(stateDirectory)).map(({ name, createdAt }) => ({ name, createdAt }))
    if (json) print(JSON.stringify(tokens))
    else for (const { name, createdAt } of tokens) print(`${new Date(createdAt).toISOString()}  ${name}`)
    return 0
  }
  if (command.action === 'create') {
    const token = await createToken(stateDirectory, command.name, now())
    if (token === null) tell(`There is a token named ${command.name} already; revoke it first.`)
    else if (json) print(JSON.stringify({ name: command.name, token }))
    else {
      print(token)
      tell('Shown this once only.')
    }
    return token === null ? 1 : 0
  }
  const revoked = await revokeToken(stateDirectory, command.name)
  tell(revoked ? `${command.name} is void from the next request on.` : `There is no token named ${command.name}.`)
  return revoked ? 0 : 1
}
