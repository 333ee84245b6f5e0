// SELinux and AppArmor: whether either keeps programs to what they may do. A module that only watches restrains nobody.
import { join } from 'node:path'
import type { Sections } from '../../../protocol/facts.ts'
import { readNames, readText } from '../read.ts'

type Linux = NonNullable<Sections['security']['linux']>
export interface AccessControl {
  readonly selinux: NonNullable<Linux['selinux']>
  readonly apparmor: NonNullable<Linux['apparmor']>
  readonly mandatoryAccessControl: Sections['security']['mandatoryAccessControl']
}

async function selinuxMode(root: string): Promise<AccessControl['selinux']> {
  const enforcing = (await readText(join(root, 'sys/fs/selinux/enforce')))?.trim()
  if (enforcing === '1') return 'enforcing'
  if (enforcing === '0') return 'permissive'
  // Only a kernel that runs SELinux knows its file system.
  const fileSystems = await readText(join(root, 'proc/filesystems'))
  return fileSystems !== null && !/\bselinuxfs$/m.test(fileSystems) ? 'disabled' : 'unknown'
}

async function apparmorMode(root: string): Promise<{ readonly mode: AccessControl['apparmor']; readonly enabled: boolean }> {
  const enabled = (await readText(join(root, 'sys/module/apparmor/parameters/enabled')))?.trim()
  const modules = (await readText(join(root, 'sys/kernel/security/lsm')))?.trim().split(',')
  if (enabled === 'N' || modules?.includes('apparmor') === false) return { mode: 'disabled', enabled: false }
  // The kernel lists every module it was built with.
  if (enabled === undefined) return { mode: (await readNames(join(root, 'sys/module')))?.includes('apparmor') === false ? 'disabled' : 'unknown', enabled: false }
  const profiles = await readText(join(root, 'sys/kernel/security/apparmor/profiles'))
  return { mode: enabled !== 'Y' || profiles === null ? 'unknown' : / \((enforce|kill)\)$/m.test(profiles) ? 'enforcing' : 'complaining', enabled: enabled === 'Y' }
}

/** @param root where the machine's file system begins */
export async function accessControl(root: string): Promise<AccessControl> {
  const [selinux, { mode: apparmor, enabled }] = [await selinuxMode(root), await apparmorMode(root)]
  const found = (state: 'on' | 'off' | 'unknown', product: string): AccessControl => ({ selinux, apparmor, mandatoryAccessControl: { state, product } })
  if (selinux === 'enforcing') return found('on', 'selinux')
  // Which profiles are loaded only root may read; that they are is what the module is for.
  if (apparmor === 'enforcing' || (enabled && apparmor === 'unknown')) return found('on', 'apparmor')
  if (selinux === 'permissive') return found('off', 'selinux')
  return found(apparmor === 'complaining' || (selinux === 'disabled' && apparmor === 'disabled') ? 'off' : 'unknown', apparmor === 'complaining' ? 'apparmor' : '')
}
