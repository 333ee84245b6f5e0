// The stores of the system that the agent runs on; where there are none yet, that is said.
import { osTypeHere } from '../../posture/portable.ts'
import { StoreFailure, type BrowserStores } from './browser-store.ts'
import { findOwner } from './linux/owner.ts'
import { linuxStores } from './linux/stores.ts'

export interface Place { readonly ownerUid: number; readonly root: string; /** Where the browsers of the agent's own account look; the account's home unless said. */ readonly home?: string | undefined }

/** Throws a `StoreFailure` where browsers can not be served: another system (`unsupported`), no such account. */
export async function storesHere({ ownerUid, root, home }: Place): Promise<BrowserStores> {
  const os = osTypeHere()
  if (os !== 'linux') throw new StoreFailure(`unsupported: certificates are not put into browsers on ${os} yet.`)
  const owner = await findOwner(root, ownerUid, home)
  if (owner === null) throw new StoreFailure(`The account ${ownerUid} is not known to this system, so its browsers can not be found.`)
  return linuxStores(owner, root)
}
