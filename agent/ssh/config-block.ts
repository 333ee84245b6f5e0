// The lines for ~/.ssh/config by which plain ssh, git, scp and rsync go through the agent. What ssh puts into them may be hostile: a host's name can come from a web page or a submodule.
import { suffixes } from './kept.ts'
import { ownCommand, ownProgram } from './own-command.ts'
import { configWord, shellWord, withoutTokens } from './quote.ts'

/** A line of Match ends at a double quote whatever stands before it, in some versions of ssh; a shell at a single one. */
const UNFIT = /['"\\\u0000-\u001f]/

/** Inside single quotes a shell takes everything but a single quote for what it is. */
const SAFE = '!host "*\'*"'
const TOKENS = ['\'%h\'', '\'%p\''] as const

/**
 * @param patterns of hosts, as in ssh_config(5); none: every host, of which the agent is asked
 * @param kept where certificates are kept
 * @throws a sentence where a path can not stand there
 */
export function configBlock({ directory, kept, patterns }: { directory: string; kept: string; patterns: readonly string[] }): string {
  const unfit = [directory, kept, ...ownProgram].find((path) => UNFIT.test(path))
  if (unfit !== undefined) throw new Error(`ssh's configuration can not hold a path with quotes or backslashes in it: ${unfit}`)
  const match = `Match ${patterns.length === 0 ? '' : `host ${configWord(patterns.join(','))} `}${SAFE} exec`
  const isThere = (suffix: string) => configWord(`test -s ${withoutTokens(shellWord(kept))}/'%h_%p'${suffix}`)
  const file = (suffix: string) => configWord(`${withoutTokens(kept)}/%h_%p${suffix}`)
  return [
    '# Sallyport: hosts behind its gateways, with short-lived certificates. Made by `agent ssh-config`; put it above other blocks.',
    `${match} ${configWord(ownCommand('ssh-certificate', directory, '--match', '--', ...TOKENS))}`,
    `    ProxyCommand ${ownCommand('connect', directory, '--', ...TOKENS)}`,
    '    ProxyUseFdpass no',
    `${match} ${isThere(suffixes.certificate)}`,
    `    IdentityFile ${file('')}`,
    `    CertificateFile ${file(suffixes.certificate)}`,
    '    IdentitiesOnly yes',
    '# Where the gateway was told the keys of a host, these and no others.',
    `${match} ${isThere(suffixes.knownHosts)}`,
    `    UserKnownHostsFile ${file(suffixes.knownHosts)}`,
    '    GlobalKnownHostsFile /dev/null',
    '    StrictHostKeyChecking yes',
    '    UpdateHostKeys no',
    'Match all',
  ].join('\n')
}
