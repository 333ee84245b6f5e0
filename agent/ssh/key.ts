// Keys for SSH sessions, made by the system's own ssh-keygen: what it writes, its ssh reads.
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { sshPublicKey } from '../../protocol/ssh.ts'

const run = promisify(execFile)

/** A program of OpenSSH is missing. */
export const openSshMissing = (program: string): Error => new Error(`${program} is not installed. Install OpenSSH's client (Debian: apt install openssh-client), then try again.`)

async function keygen(...args: readonly string[]): Promise<string> {
  try {
    return (await run('ssh-keygen', [...args], { timeout: 20_000 })).stdout
  } catch (cause) {
    throw (cause as NodeJS.ErrnoException).code === 'ENOENT' ? openSshMissing('ssh-keygen') : cause
  }
}

/** Makes a key without a passphrase: it is worth nothing without a certificate, and that ends soon. @param path absolute; its directory is the person's own */
export async function makeKey(path: string): Promise<void> {
  await keygen('-q', '-t', 'ed25519', '-N', '', '-C', '', '-f', path)
}

/** The public key that belongs to a key in a file. */
export async function publicKeyOf(path: string): Promise<string> {
  const [type = '', blob = ''] = (await keygen('-y', '-P', '', '-f', path)).trim().split(/\s+/)
  return sshPublicKey.parse(`${type} ${blob}`)
}
