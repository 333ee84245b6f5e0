// One protection of Linux is on: disk encryption, firewall, unattended upgrades, SELinux or AppArmor, secure boot.
import type { Sections, State } from '../../../protocol/facts.ts'
import { securityType, some, type SecurityCheck } from '../security-check.ts'

type Linux = NonNullable<Sections['security']['linux']>
const check = (read: SecurityCheck['read'], what: string, how = 'Switch on', off = 'Switch off'): SecurityCheck => ({ read, holds: `${what} is on`, turnOn: `${how}: ${what}.`, turnOff: `${off}: ${what}.` })
/** A mode that only logs protects nothing. */
const enforces = (mode: Linux['selinux'] | Linux['apparmor']): State | undefined => (mode === undefined || mode === 'unknown' ? mode : mode === 'enforcing' ? 'on' : 'off')
/** Only what is looked at for itself: were there a second source, the loss of the first could turn an `off` into an `on`. */
export const linuxSecurity = securityType('linux-security', 'linux', {
  'root-encryption': check(({ linux }) => linux?.rootEncryption, 'encryption of the root file system', 'Install anew with', 'Install without'),
  'home-encryption': check(({ linux }) => linux?.homeEncryption, 'encryption of the home directories', 'Set up', 'Do without'),
  'firewall': check(({ linux }) => some([linux?.nftables, linux?.ufw, linux?.firewalld]), 'a firewall (nftables, ufw or firewalld)'),
  'unattended-upgrades': check(({ linux }) => linux?.unattendedUpgrades, 'unattended upgrades'),
  'selinux-enforcing': check(({ linux }) => enforces(linux?.selinux), 'SELinux in enforcing mode'),
  'apparmor-enforcing': check(({ linux }) => enforces(linux?.apparmor), 'AppArmor in enforcing mode'),
  'mandatory-access-control': check(({ linux }) => some([enforces(linux?.selinux), enforces(linux?.apparmor)]), 'SELinux or AppArmor, enforcing'),
  'secure-boot': check(({ secureBoot }) => secureBoot, 'secure boot'),
})
