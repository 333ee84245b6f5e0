// The room's part of the gateway's command line: shows the keys of the SSH CA, and replaces them. It touches nothing but the state directory.
import { existsSync } from 'node:fs'
import { UsageError } from '../../node/config.ts'
import { openSshAuthority, rotateSshAuthority, type PublishedKey } from './authority.ts'

export const sshUsage = `
  gateway ssh-ca --state DIR [--json]
      Prints the public keys by which hosts know the SSH certificates of this gateway, one a line, for sshd's TrustedUserCAKeys; makes the key when there is none.
      They stand at /.well-known/sallyport/ssh-ca.pub of the gateway too, while a service has an ssh part; who fetches them there must verify its certificate.
      Here:              gateway ssh-ca --state /var/lib/sallyport-gateway > sallyport-ca.pub
      On each host then: install -m 644 sallyport-ca.pub /etc/ssh/
                         echo 'TrustedUserCAKeys /etc/ssh/sallyport-ca.pub' > /etc/ssh/sshd_config.d/sallyport.conf && systemctl reload ssh
  gateway ssh-ca rotate --state DIR [--signs-after SECONDS | --compromised] [--json]
      Makes the next key and prints all that hosts are to trust now. It signs after 604800 seconds (7 days) unless said: give it to the hosts before then.
      The one before stays listed until a day after that. --compromised: the new one signs at once, and no other is listed; take the old ones from the hosts.
`
export const sshOptions = { 'signs-after': { type: 'string' }, 'compromised': { type: 'boolean' } } as const

export type SshCommand = { readonly verb: 'ssh-ca'; readonly stateDirectory: string; readonly json: boolean; readonly rotate: { readonly afterMs: number; readonly compromised: boolean } | null }

const WEEK_SECONDS = 604_800

/** Reads `ssh-ca …`. Throws `UsageError`. */
export function readSshCommand(words: readonly string[], values: { readonly 'signs-after'?: string; readonly 'compromised'?: boolean }, { stateDirectory, json }: { readonly stateDirectory?: string; readonly json: boolean }): SshCommand {
  const { 'signs-after': after, compromised = false } = values
  if (words.length > 0 && words.join(' ') !== 'rotate') throw new UsageError('ssh-ca takes rotate, or nothing.')
  if (stateDirectory === undefined) throw new UsageError('ssh-ca needs --state DIR.')
  if (words.length === 0 && (after !== undefined || compromised)) throw new UsageError('--signs-after and --compromised stand with ssh-ca rotate.')
  if (after !== undefined && (compromised || !/^\d{1,8}$/.test(after))) throw new UsageError('--signs-after takes whole seconds, and stands without --compromised.')
  return { verb: 'ssh-ca', stateDirectory, json, rotate: words.length === 0 ? null : { afterMs: Number(after ?? WEEK_SECONDS) * 1000, compromised } }
}

const told = ({ state, from }: PublishedKey): string => (state === 'signs' ? 'signs now' : state === 'next' ? `signs from ${new Date(from).toISOString()} on` : 'signs no more; what it signed ends within a day')

/** Runs it. @returns the exit code */
export async function runSshCommand({ stateDirectory, rotate, json }: SshCommand, { print, tell, now }: { readonly print: (text: string) => void; readonly tell: (text: string) => void; readonly now: () => number }): Promise<number> {
  // A mistyped one would be made, and hosts would trust a CA that signs nothing.
  if (!existsSync(stateDirectory)) throw new Error(`There is no directory ${stateDirectory}; gateway run makes it.`)
  const keys = rotate === null ? await openSshAuthority({ directory: stateDirectory, now }).published() : await rotateSshAuthority(stateDirectory, { now: now(), ...rotate })
  if (json) print(JSON.stringify({ keys }))
  else {
    for (const key of keys) {
      print(key.line)
      tell(told(key))
    }
  }
  return 0
}
