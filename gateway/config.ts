// The gateway's command line, parsed once. Files are opened by those who need them.
import { hostname } from 'node:os'
import { environment, readArguments, UsageError } from '../node/config.ts'
import { JOIN_CODE_PREFIX, readInvitation } from '../protocol/invitation.ts'
import { sha256Hex } from '../protocol/text.ts'
import { defaultPoll, type PollSettings } from './fabric/polling.ts'
import type { TraceSettings } from './traces/traces.ts'
import { firewallOptions, firewallRunUsage, firewallUsage, readFirewallCommand, readFirewallSettings, type FirewallCommand, type FirewallSettings } from './firewall/command-line.ts'
import { readSshCommand, sshOptions, sshUsage, type SshCommand } from './ssh/command-line.ts'

export const usage = `The gateway: lets devices through to protected services by what the EMS knows of them.

  gateway run --state DIR --policies FILE [--listen HOST:PORT] [--metrics-port PORT] [--join-code CODE | --join-code-file FILE | --ems ORIGIN --ems-pin SHA256] [--name NAME] [--tls-ca FILE] [--drain SECONDS] [--workers N] [--poll-after SECONDS] [--poll-every SECONDS] [--traces URL] [--traces-share SHARE]
              ${firewallRunUsage}
      Joins the fabric (the first time) and serves. SIGTERM and SIGINT end it: no more connections, open sessions may go on for --drain seconds (10), then they are cut.
      --workers N serves with N processes (1), beside the one that follows the EMS.
      Where no websocket to the EMS can be had for --poll-after seconds (10), as behind a proxy that takes upgrades away, the EMS is asked what is new
      at least every --poll-every seconds (5), until there is one again.
      --traces URL hands a trace of each session (decide, resolve, dial, carry) to an OpenTelemetry collector, by OTLP over HTTP as JSON, and tells upstreams of
      HTTPS services its traceparent; --traces-share 0.1 does so for a tenth of them. Headers for the collector come from OTEL_EXPORTER_OTLP_HEADERS.
  gateway check FILE [--state DIR] [--sights FILE] [--json]
      Says of each mistake in a policy file where it stands; with the state directory, also which tags the EMS does not know.
  gateway schema
      Prints the JSON schema of the policy file, for editors.
  gateway status --state DIR [--json]
      What the state directory says: serial, certificate, how old the snapshot is.${firewallUsage.trimEnd()}${sshUsage.trimEnd()}

Examples:
  gateway run --state /var/lib/sallyport-gateway --policies /etc/sallyport/policies.yaml --join-code sj1.eyJ…
  gateway run --state ./state --policies ./policies.yaml --ems https://ems.example.com --ems-pin 3f5a…   (an administrator compares the fingerprint that is shown)
  gateway check /etc/sallyport/policies.yaml

The state directory may come from SALLYPORT_STATE, a TLS root from SALLYPORT_TLS_CA, the level of the log from SALLYPORT_LOG_LEVEL.
A code on the command line is seen by everybody on this machine while the program runs; --join-code-file is not.
Exit code: 0 done, 1 failed, 2 wrong usage.
`

/** Where the EMS is and how it is known, on joining. */
export interface JoinTarget { readonly ems: string; readonly pin: string; readonly code: string | null }

export type Command =
  | FirewallCommand
  | SshCommand
  | { readonly verb: 'help' | 'schema' }
  | {
    readonly verb: 'run'
    readonly stateDirectory: string
    readonly policiesFile: string
    readonly listen: { readonly host: string; readonly port: number }
    readonly metricsPort: number
    readonly drainMs: number
    readonly workers: number
    readonly poll: PollSettings
    readonly traces: TraceSettings | null
    readonly joinCode: string | null
    readonly joinCodeFile: string | null
    readonly pinned: { readonly ems: string; readonly pin: string } | null
    readonly displayName: string
    readonly tlsCaFile: string | null
    readonly firewall: FirewallSettings | null
    readonly logLevel: string
  }
  | { readonly verb: 'check'; readonly file: string; readonly stateDirectory: string | null; readonly sightsFile: string | null; readonly json: boolean }
  | { readonly verb: 'status'; readonly stateDirectory: string; readonly json: boolean }

const text = { type: 'string' } as const
const options = {
  'state': text, 'policies': text, 'listen': text, 'metrics-port': text, 'join-code': text, 'join-code-file': text, 'ems': text, 'ems-pin': text, 'name': text, 'tls-ca': text, 'drain': text, 'workers': text, 'poll-after': text, 'poll-every': text, 'traces': text, 'traces-share': text, ...firewallOptions, ...sshOptions,
  'json': { type: 'boolean' }, 'help': { type: 'boolean', short: 'h' },
} as const

function readPort(value: string): number {
  const port = Number(value)
  if (!/^\d{1,5}$/.test(value) || port > 65_535) throw new UsageError(`${value} is not a port.`)
  return port
}

function readSeconds(value: string, option: string): number {
  if (!/^\d{1,5}$/.test(value)) throw new UsageError(`${option} takes whole seconds, not "${value}".`)
  return Number(value)
}

/** Too seldom, and every gateway would be stale between two questions. */
const MAX_POLL_SECONDS = 60

function readPoll(after: string, every: string): PollSettings {
  const everyMs = readSeconds(every, '--poll-every') * 1_000
  if (everyMs === 0 || everyMs > MAX_POLL_SECONDS * 1_000) throw new UsageError(`--poll-every takes 1 to ${MAX_POLL_SECONDS} seconds, not "${every}".`)
  return { afterMs: readSeconds(after, '--poll-after') * 1_000, everyMs }
}

function readTraces(url: string | undefined, share: string | undefined): TraceSettings | null {
  if (url === undefined && share !== undefined) throw new UsageError('--traces-share stands with --traces URL.')
  if (url === undefined) return null
  const read = URL.parse(url)
  if (read === null || !/^https?:$/.test(read.protocol) || read.username !== '' || read.hash !== '') throw new UsageError('--traces takes a URL like http://127.0.0.1:4318, without a user.')
  // As every exporter does with the origin of a collector.
  if (read.pathname === '/') read.pathname = '/v1/traces'
  const part = Number(share ?? 1)
  if (!(part > 0 && part <= 1)) throw new UsageError(`--traces-share takes a number above 0, up to 1, not "${share ?? ''}".`)
  return { url: read.href, share: part }
}

function readWorkers(value: string): number {
  const count = Number(value)
  if (!/^\d{1,3}$/.test(value) || count < 1 || count > 128) throw new UsageError(`--workers takes a number from 1 to 128, not "${value}".`)
  return count
}

function readListen(value: string, option = '--listen'): { host: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d+)$/.exec(value)
  if (match === null) throw new UsageError(`${option} takes HOST:PORT, like 0.0.0.0:8443 or [::]:8443.`)
  return { host: match[1] ?? match[2] ?? '', port: readPort(match[3] ?? '') }
}

/** Reads a join code. Throws `UsageError` when it is none. */
export function readJoinCode(code: string): JoinTarget {
  const read = readInvitation(JOIN_CODE_PREFIX, code.trim())
  if (read === null) throw new UsageError('The join code is damaged or not one for gateways; it begins with sj1.')
  return read
}

function readPinned(ems: string | undefined, pin: string | undefined): { ems: string; pin: string } | null {
  if (ems === undefined && pin === undefined) return null
  if (ems === undefined || pin === undefined) throw new UsageError('--ems and --ems-pin stand together: without the pin anybody could pose as the EMS.')
  if (!URL.canParse(ems) || new URL(ems).origin !== ems || !ems.startsWith('https://')) throw new UsageError('--ems takes an origin like https://ems.example.com.')
  const plain = pin.replaceAll(':', '').toLowerCase()
  if (!sha256Hex.safeParse(plain).success) throw new UsageError('--ems-pin takes the SHA-256 of the EMS CA: 64 hex digits.')
  return { ems, pin: plain }
}

/** Parses the arguments after the program's name. Throws `UsageError`. */
export function readCommand(argv: string[]): Command {
  const { values, positionals: [verb, ...rest] } = readArguments(argv, options)
  if (values.help === true || verb === 'help') return { verb: 'help' }
  const stateDirectory = values.state ?? environment.stateDirectory
  const json = values.json ?? false
  if (verb === 'firewall' || verb === 'lists') return readFirewallCommand([verb, ...rest], { tag: values.tag, stateDirectory, json })
  if (verb === 'ssh-ca') return readSshCommand(rest, values, { stateDirectory, json })
  if (values['signs-after'] !== undefined || values.compromised !== undefined) throw new UsageError('--signs-after and --compromised stand with ssh-ca rotate.')
  if (values.tag !== undefined) throw new UsageError('--tag stands with firewall template.')
  if (rest.length > (verb === 'check' ? 1 : 0)) throw new UsageError(`${rest.at(-1) ?? ''} is one argument too many.`)
  switch (verb) {
    case 'run': {
      if (stateDirectory === undefined || values.policies === undefined) throw new UsageError('run needs --state DIR and --policies FILE.')
      const pinned = readPinned(values.ems, values['ems-pin'])
      if ([values['join-code'], values['join-code-file'], pinned ?? undefined].filter((each) => each !== undefined).length > 1) throw new UsageError('Give one of --join-code, --join-code-file, or --ems with --ems-pin.')
      return {
        verb, stateDirectory, policiesFile: values.policies, pinned, firewall: readFirewallSettings(values, readListen),
        listen: readListen(values.listen ?? '0.0.0.0:8443'), metricsPort: readPort(values['metrics-port'] ?? '9464'), drainMs: readSeconds(values.drain ?? '10', '--drain') * 1_000, workers: readWorkers(values.workers ?? '1'),
        poll: readPoll(values['poll-after'] ?? String(defaultPoll.afterMs / 1_000), values['poll-every'] ?? String(defaultPoll.everyMs / 1_000)), traces: readTraces(values.traces, values['traces-share']),
        joinCode: values['join-code'] ?? null, joinCodeFile: values['join-code-file'] ?? null,
        displayName: values.name ?? hostname(), tlsCaFile: values['tls-ca'] ?? environment.tlsCa ?? null, logLevel: environment.logLevel ?? 'info',
      }
    }
    case 'check': {
      const [file] = rest
      if (file === undefined) throw new UsageError('check needs the policy file.')
      return { verb, file, stateDirectory: values.state ?? null, sightsFile: values.sights ?? null, json }
    }
    case 'status': {
      if (stateDirectory === undefined) throw new UsageError('status needs --state DIR.')
      return { verb, stateDirectory, json }
    }
    case 'schema':
      return { verb }
    default:
      throw new UsageError(verb === undefined ? 'Say what to do: run, check, schema, status, ssh-ca, firewall or lists.' : `${verb} is no command; there are run, check, schema, status, ssh-ca, firewall and lists.`)
  }
}
