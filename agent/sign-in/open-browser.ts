// Opens the person's own browser, where this machine shows one. Nothing depends on it: the address is printed too.
import { spawn } from 'node:child_process'
import { environment } from '../../node/config.ts'
import { findOwner } from '../certificates/browsers/linux/owner.ts'

/** The command that opens an address; null where there is none, or no screen. */
const opener = (): string | null => (process.platform === 'darwin' ? 'open' : process.platform === 'linux' && environment.display !== undefined ? 'xdg-open' : null)

/**
 * @param address beginning with http: or https:
 * @param ownerUid whose browser it is where root signs them in: none runs as root
 */
export async function openBrowser(address: string, ownerUid: number): Promise<void> {
  const command = opener()
  if (command === null) return
  const owner = process.getuid?.() === 0 && ownerUid !== 0 ? await findOwner('/', ownerUid) : null
  // The rest of the environment says where the screen is.
  const [file, args] = owner === null ? [command, [address]] : ['env', [`HOME=${owner.home}`, `USER=${owner.account}`, `XDG_RUNTIME_DIR=/run/user/${owner.uid}`, command, address]]
  const child = spawn(file, args, { stdio: 'ignore', detached: true, ...(owner === null ? {} : { uid: owner.uid, gid: owner.gid }) })
  // Without that command, the person opens the address.
  child.on('error', () => undefined)
  child.unref()
}
