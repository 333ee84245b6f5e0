// How the machine is protected, from the kernel's own words where it has some. What can't be seen is `unknown`.
import { join } from 'node:path'
import type { Sections } from '../../../protocol/facts.ts'
import type { Homes } from '../places.ts'
import { isThere, readForeign, type RunCommand } from '../read.ts'
import { accessControl } from './access-control.ts'
import { automaticUpdates } from './automatic-updates.ts'
import { diskEncryption } from './disk-encryption.ts'
import { linuxFirewall } from './firewall.ts'

/** An EFI variable: four bytes of attributes, then here one that says it. Null when it can't be read. */
async function efiFlag(root: string, name: string): Promise<boolean | null> {
  const variable = await readForeign(join(root, 'sys/firmware/efi/efivars', name), 16, null)
  return variable?.length === 5 ? variable[4] === 1 : null
}

/** A machine that did not boot by EFI has no secure boot. */
async function secureBoot(root: string): Promise<Sections['security']['secureBoot']> {
  if (!await isThere(join(root, 'sys/firmware'))) return 'unknown'
  if (!await isThere(join(root, 'sys/firmware/efi'))) return 'off'
  const on = await efiFlag(root, 'SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c')
  // The firmware checks the loader, and the loader was told to check nothing.
  const shimOff = await efiFlag(root, 'MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23') === true
  return on === null ? 'unknown' : on && !shimOff ? 'on' : 'off'
}

/**
 * @param root where the machine's file system begins
 * @param homeOf where the enrolled user lives
 */
export function linuxSecurity(root: string, run: RunCommand, homeOf: () => Promise<Homes['home']>): () => Promise<Sections['security']> {
  const [updates, encryption] = [automaticUpdates(root, run), diskEncryption(root, run)]
  return async () => {
    const { firewall, nftables, ufw, firewalld } = await linuxFirewall(root, run)
    const disk = await encryption((await homeOf())?.path ?? null)
    const { selinux, apparmor, mandatoryAccessControl } = await accessControl(root)
    const automatic = await updates()
    return {
      firewall, diskEncryption: disk.both, mandatoryAccessControl, automaticUpdates: automatic, secureBoot: await secureBoot(root),
      linux: {
        rootEncryption: disk.root.state, ...(disk.home === null ? {} : { homeEncryption: disk.home.state }),
        nftables, ufw, firewalld, unattendedUpgrades: automatic.state, selinux, apparmor,
      },
    }
  }
}
